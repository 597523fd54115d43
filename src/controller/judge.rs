//! Whether a role that is there may be touched, and whether it is the one that is meant.

use super::failure::Failure;
use super::subject::Subject;
use crate::api::Reason;
use crate::api::iamrole::{Adoption, Origin};
use crate::role::{Desired, Observed, Ownership};

/// The name and path that status remembers are those that spec and class ask for.
pub fn same_identity(subject: &Subject, desired: &Desired) -> Result<(), Failure> {
    let Some(role) = subject.status.role.as_ref().filter(|role| role.id.is_some()) else {
        return Ok(());
    };
    let (field, is, asked) = if role.name != desired.name {
        ("name", &role.name, &desired.name)
    } else if role.path != desired.path && (desired.path_given || role.origin != Some(Origin::Adopted)) {
        ("path", &role.path, &desired.path)
    } else {
        return Ok(());
    };
    Err(Failure::on_change(
        Reason::IdentityImmutable,
        format!(
            "the role's {field} is {is:?}, spec and class ask for {asked:?}; IAM can't change it and nothing is touched. Set \
             it back, or delete the object and create it anew"
        ),
    ))
}

/// Whose the role is; a failure where the spec gives no leave to touch it.
pub fn judge(desired: &Desired, observed: &Observed) -> Result<Ownership, Failure> {
    let ownership = desired.owner.judge(&observed.tags);
    match &ownership {
        Ownership::Ours(_) => {
            let as_found = !matches!(ownership, Ownership::Ours(Origin::Created)) && !desired.path_given;
            same_place(desired, observed, as_found)?;
        }
        Ownership::Other(owner) => {
            let heir = if desired.owner.is_namesake(&observed.tags) {
                ", or, if that cluster is no more, name it in takeOverClusters of the class"
            } else {
                ""
            };
            return Err(Failure::on_change(
                Reason::RoleOwnedByOther,
                format!(
                    "role {} belongs to {owner}; it is left untouched. Choose another roleName{heir}",
                    observed.arn
                ),
            ));
        }
        Ownership::Foreign if desired.adoption == Adoption::Never => {
            return Err(Failure::on_change(
                Reason::RoleNotOwned,
                format!(
                    "role {} exists and does not carry this operator's owner tags; it is left untouched. Choose another \
                     roleName, set adoption: IfExists to take it over, or remove it in AWS",
                    observed.arn
                ),
            ));
        }
        Ownership::Foreign => same_place(desired, observed, !desired.path_given)?,
    }
    Ok(ownership)
}

fn same_place(desired: &Desired, observed: &Observed, path_as_found: bool) -> Result<(), Failure> {
    let same_path = path_as_found || observed.path == desired.path;
    if observed.name == desired.name && same_path {
        return Ok(());
    }
    Err(Failure::on_change(
        Reason::IdentityImmutable,
        format!(
            "AWS has the role as {}, spec and class ask for {}{}; IAM takes names that differ only in case or path for the \
             same. Use the existing name and path, or another name",
            observed.arn, desired.path, desired.name
        ),
    ))
}

/// There is nothing to adopt.
#[must_use]
pub fn missing(desired: &Desired) -> Failure {
    Failure::slow(
        Reason::RoleMissing,
        format!("there is no role {} to adopt; create it, or set adoption: IfExists", desired.name),
    )
}
