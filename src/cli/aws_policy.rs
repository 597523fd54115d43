//! `iamrole aws-policy`: prints the least IAM policy for the operator's own AWS identity.

use crate::policy::Arn;
use crate::power::{self, Feature, Format, Options, RenderError};
use crate::role::names;
use crate::role::owner::uid_of;
use std::collections::BTreeSet;
use std::io::Write;

/// Arguments of `iamrole aws-policy`. Each narrows the policy, but for --adoption, --force-delete and --take-over,
/// which make it as wide as these need. What is not narrowed is said on standard error.
#[derive(Clone, Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "one for each switch of the command line")]
pub struct Args {
    /// The cluster, as the owner tag iamrole.dev/cluster has it (NAME/UID), or the UID of the namespace kube-system
    /// alone. The operator may then change only what carries this tag.
    #[arg(long, value_name = "NAME/UID", value_parser = cluster)]
    pub cluster: Option<String>,

    /// A cluster whose roles are taken over, as in `takeOverClusters` of the class. May be repeated.
    #[arg(long, value_name = "NAME/UID", value_parser = cluster, requires = "cluster")]
    pub take_over: Vec<String>,

    /// The AWS account. Without it that of --operator-role, --boundary or --pod-identity, else any: IAM's calls never
    /// reach another account.
    #[arg(long, value_name = "ID", value_parser = account)]
    pub account: Option<String>,

    /// The partition: aws, aws-cn, aws-us-gov. Without it that of --operator-role or --boundary, else aws.
    #[arg(long, value_name = "NAME", value_parser = partition)]
    pub partition: Option<String>,

    /// Path of roles, policies and instance profiles, or its beginning; as in the class, or shorter.
    #[arg(long, value_name = "/PATH/", default_value = "/", value_parser = path)]
    pub path: String,

    /// ARN of the permissions boundary of every role. Repeated: one of them. The operator may then neither give
    /// permissions to a role without it, nor take it away, nor change it. `*` in the name stands for any text.
    #[arg(long, value_name = "ARN", value_parser = boundary)]
    pub boundary: Vec<String>,

    /// Nobody uses `instanceProfile`.
    #[arg(long)]
    pub no_instance_profiles: bool,

    /// Nobody uses `customerManagedPolicies`.
    #[arg(long)]
    pub no_customer_managed_policies: bool,

    /// No class looks for drift by walks over the account (`driftCheck.method: Role` in each). Walks show the operator
    /// the documents of all roles of the account; without them each role costs about four calls a check.
    #[arg(long)]
    pub no_account_walks: bool,

    /// `adoption` is used: roles that carry no owner tags may be given some.
    #[arg(long)]
    pub adoption: bool,

    /// `deletionPolicy: ForceDelete` is used: roles may be taken out of any instance profile.
    #[arg(long)]
    pub force_delete: bool,

    /// Which policies may be attached: an ARN, or the name of an AWS-managed policy with its path; * and ? are
    /// wildcards. May be repeated. Policies under --path may be attached as well, unless
    /// --no-customer-managed-policies.
    #[arg(long, value_name = "PATTERN", value_parser = attachable)]
    pub attach: Vec<String>,

    /// ARN of a role that is assumed to work in another account, as in `account.assumeRole` of a class. May be repeated.
    /// That role needs the policy that this command prints for its account.
    #[arg(long, value_name = "ARN", value_parser = identity)]
    pub assume_role: Vec<String>,

    /// Print instead a second policy, to be attached beside the other: for associations of EKS Pod Identity in the
    /// cluster with this ARN (`workloadIdentity.podIdentity.associations: Managed` of a class). --cluster and --path
    /// narrow it, too.
    #[arg(long, value_name = "ARN", value_parser = eks_cluster)]
    pub pod_identity: Option<String>,

    /// ARN of the role (or user) that the operator is. It may then do nothing to itself.
    #[arg(long, value_name = "ARN", value_parser = identity)]
    pub operator_role: Option<String>,

    /// Name of the policy when it is made. The operator may not change the policy of this name.
    #[arg(long, value_name = "NAME", default_value = "iamrole-operator", value_parser = policy_name)]
    pub policy_name: String,

    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub format: Format,
}

/// The policy could not be printed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two options speak of different accounts or partitions.
    #[error("{option} is of {what} {found}, but another option says {expected}: one policy is for one account")]
    Mismatch {
        /// The option.
        option: &'static str,
        /// `account` or `partition`.
        what: &'static str,
        /// What it says.
        found: String,
        /// What was said before.
        expected: String,
    },
    /// It could not be written as text.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// Writing failed.
    #[error("writing standard output: {0}")]
    Write(#[from] std::io::Error),
}

/// Prints the policy; notes on what it leaves open go to standard error.
pub fn run(args: &Args) -> Result<(), Error> {
    let options = options(args)?;
    let text = power::policy(&options).render(&options, args.format)?;
    for note in notes(&options) {
        eprintln!("note: {note}");
    }
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// What the arguments ask for.
pub fn options(args: &Args) -> Result<Options, Error> {
    let mut place = Place { account: args.account.clone(), partition: args.partition.clone() };
    if let Some(arn) = &args.operator_role {
        place.agree("--operator-role", arn)?;
    }
    for arn in &args.boundary {
        place.agree("--boundary", arn)?;
    }
    if let Some(arn) = &args.pod_identity {
        place.agree("--pod-identity", arn)?;
    }
    let partition = place.partition.unwrap_or_else(|| "aws".to_owned());
    let in_full = |pattern: &String| {
        if pattern.contains(':') || pattern == "*" {
            pattern.clone()
        } else {
            format!("arn:{partition}:iam::aws:policy/{pattern}")
        }
    };
    let features = [
        (Feature::InstanceProfiles, !args.no_instance_profiles),
        (Feature::CustomerManagedPolicies, !args.no_customer_managed_policies),
        (Feature::AccountWalks, !args.no_account_walks),
        (Feature::Adoption, args.adoption),
        (Feature::ForceDelete, args.force_delete),
    ];
    let uid = |tag: &String| uid_of(tag).to_owned();
    Ok(Options {
        account: place.account,
        cluster: args.cluster.as_ref().map(uid),
        take_over: args.take_over.iter().map(uid).collect(),
        path: args.path.clone(),
        boundaries: args.boundary.clone(),
        features: features.into_iter().filter(|(_, used)| *used).map(|(feature, _)| feature).collect::<BTreeSet<_>>(),
        attach: args.attach.iter().map(in_full).collect(),
        assume: args.assume_role.clone(),
        pod_identity: args.pod_identity.clone(),
        identity: args.operator_role.clone(),
        policy_name: args.policy_name.clone(),
        partition,
    })
}

struct Place {
    account: Option<String>,
    partition: Option<String>,
}

impl Place {
    fn agree(&mut self, option: &'static str, arn: &str) -> Result<(), Error> {
        let Ok(arn) = arn.parse::<Arn>() else { return Ok(()) };
        // AWS's own policies are in every account.
        let account = Some(arn.account).filter(|account| Arn::is_account_id(account));
        let both = [("partition", &mut self.partition, Some(arn.partition)), ("account", &mut self.account, account)];
        for (what, known, found) in both {
            match (&known, found) {
                (Some(expected), Some(found)) if *expected != found => {
                    return Err(Error::Mismatch { option, what, found, expected: expected.clone() });
                }
                (_, Some(found)) => *known = Some(found),
                (_, None) => {}
            }
        }
        Ok(())
    }
}

const GET_UID: &str = "get the UID by: kubectl get namespace kube-system -o jsonpath='{.metadata.uid}'";

fn notes(options: &Options) -> Vec<String> {
    let others = format!("without --cluster it lets the operator change what others made, too; {GET_UID}");
    let notes = [
        (options.cluster.is_none(), others.as_str()),
        (options.boundaries.is_empty(), "without --boundary it lets the operator make roles with any permission"),
        (options.attach.is_empty(), "without --attach it lets the operator attach any policy"),
        (options.path == "/", "without --path it covers all roles of the account; name the path of the classes"),
        (options.identity.is_none(), "without --operator-role it does not keep the operator off its own role"),
    ];
    notes.into_iter().filter(|(applies, _)| *applies).map(|(_, note)| note.to_owned()).collect()
}

/// The text, or what was expected.
fn check(text: &str, valid: bool, expected: &str) -> Result<String, String> {
    if valid { Ok(text.to_owned()) } else { Err(expected.to_owned()) }
}

/// Printable, and nothing in it has a meaning in a policy but the wildcards, where they are meant.
fn plain(text: &str, wildcards: bool) -> bool {
    let odd = if wildcards { "$\"\\" } else { "$\"\\*?" };
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !odd.contains(c))
}

fn cluster(text: &str) -> Result<String, String> {
    let uid: Vec<&str> = uid_of(text).split('-').collect();
    let hex = |part: &&str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let valid = uid.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && uid.iter().all(hex);
    let what = "no NAME/UID, or UID alone, such as 0f6c1a52-5d0b-4a3c-9b61-5f1c8b1d2a10 of the namespace kube-system";
    check(text, valid, &format!("{what}; {GET_UID}"))
}

fn eks_cluster(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("an ARN of an EKS cluster".to_owned()) } else { crate::role::workload::cluster_arn(text) }
}

fn account(text: &str) -> Result<String, String> {
    check(text, Arn::is_account_id(text), "an account id has 12 digits")
}

fn partition(text: &str) -> Result<String, String> {
    check(text, Arn::is_partition(text), "a partition is such as aws, aws-cn or aws-us-gov")
}

fn path(text: &str) -> Result<String, String> {
    let valid = plain(text, false) && text.starts_with('/') && text.ends_with('/') && text.len() <= 512;
    check(text, valid, "a path begins and ends with / and has no wildcards; all that begins with it is meant")
}

fn boundary(text: &str) -> Result<String, String> {
    // What a wildcard stands for is a name, or part of one.
    let named = text.replacen('*', "x", 3);
    let valid = is_one(&named, &["policy"]) && !text.ends_with(":policy/*");
    check(text, valid, "not the ARN of a policy, such as arn:aws:iam::111122223333:policy/NAME or …:policy/boundary-*")
}

fn identity(text: &str) -> Result<String, String> {
    let valid = is_one(text, &["role", "user"]);
    check(text, valid, "not the ARN of a role or user, such as arn:aws:iam::111122223333:role/NAME")
}

/// Whether it is the ARN of one thing of IAM, of these kinds.
fn is_one(text: &str, kinds: &[&str]) -> bool {
    let arn = text.parse::<Arn>().ok().filter(|arn| arn.service == "iam" && kinds.contains(&arn.kind()));
    plain(text, false) && arn.is_some_and(|arn| names::valid(arn.name()) && arn.resource != arn.name())
}

fn attachable(text: &str) -> Result<String, String> {
    let arn = !text.contains(':') || text.starts_with("arn:") && text.contains(":policy/");
    let valid = plain(text, true) && arn;
    check(text, valid, "neither a policy's ARN nor the name of an AWS-managed policy such as service-role/*")
}

fn policy_name(text: &str) -> Result<String, String> {
    let valid = names::valid(text) && text.len() <= names::POLICY_NAME;
    check(text, valid, "1 to 128 of the characters A-Z a-z 0-9 _+=,.@-")
}

#[cfg(test)]
mod tests {
    use super::{Args, notes, options};
    use clap::Parser;

    const UID: &str = "0f6c1a52-5d0b-4a3c-9b61-5f1c8b1d2a10";
    const OLD: &str = "9e107d9d-372b-4b68-8a4f-1d2c3b4a5f60";

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, String> {
        let words = std::iter::once("aws-policy").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn account_and_partition_follow_from_the_arns() {
        for (line, partition, account) in [
            ("", "aws", None),
            ("--account 111122223333", "aws", Some("111122223333")),
            ("--operator-role arn:aws-cn:iam::111122223333:role/x/op", "aws-cn", Some("111122223333")),
            ("--boundary arn:aws-us-gov:iam::111122223333:policy/b", "aws-us-gov", Some("111122223333")),
            ("--boundary arn:aws:iam::aws:policy/PowerUserAccess", "aws", None),
            ("--partition aws-cn --attach ReadOnlyAccess", "aws-cn", None),
        ] {
            let options = options(&parse(line).unwrap()).unwrap();
            assert_eq!((options.partition.as_str(), options.account.as_deref()), (partition, account), "{line}");
        }
        for line in [
            "--account 111122223333 --boundary arn:aws:iam::444455556666:policy/b",
            "--partition aws --boundary arn:aws-cn:iam::111122223333:policy/b",
            "--boundary arn:aws:iam::111122223333:policy/b --operator-role arn:aws:iam::444455556666:role/op",
        ] {
            let error = options(&parse(line).unwrap()).unwrap_err().to_string();
            assert!(error.contains("another option says"), "{line}: {error}");
        }
    }

    #[test]
    fn of_a_cluster_the_uid_counts_and_names_of_policies_are_made_arns() {
        let line =
            format!("--partition aws-cn --cluster prod/{UID} --take-over {OLD} --attach service-role/* --attach *");
        let options = options(&parse(&line).unwrap()).unwrap();
        assert_eq!(options.cluster.as_deref(), Some(UID));
        assert_eq!(options.take_over, [OLD]);
        assert_eq!(options.attach, ["arn:aws-cn:iam::aws:policy/service-role/*", "*"]);
    }

    #[test]
    fn what_is_left_open_is_said() {
        let all = format!(
            "--cluster {UID} --boundary arn:aws:iam::111122223333:policy/b --operator-role \
             arn:aws:iam::111122223333:role/op --path /k8s/ --attach ReadOnlyAccess"
        );
        assert_eq!(notes(&options(&parse(&all).unwrap()).unwrap()), [""; 0]);
        let notes = notes(&options(&parse("").unwrap()).unwrap());
        for option in ["--cluster", "--boundary", "--operator-role", "--path", "--attach"] {
            assert!(notes.iter().any(|note| note.contains(option)), "{option}: {notes:?}");
        }
    }

    #[test]
    fn a_name_is_not_taken_for_the_uid_of_a_cluster() {
        let names = format!("prod prod/ prod/* uid-1 {} {UID}0 {} {UID}/prod", &UID[1..], UID.to_uppercase());
        for text in names.split(' ') {
            for option in [format!("--cluster {text}"), format!("--cluster {UID} --take-over {text}")] {
                let error = parse(&option).unwrap_err();
                assert!(error.contains("kubectl get namespace kube-system"), "{option}: {error}");
            }
        }
    }

    #[test]
    fn what_would_widen_or_break_the_policy_is_refused() {
        for line in [
            &format!("--take-over {OLD}"),
            "--account 1",
            "--partition mars",
            "--partition awsome",
            "--path k8s",
            "--path /k8s",
            "--path /*/",
            "--boundary arn:aws:iam::111122223333:policy/*",
            "--boundary arn:aws:iam::*:policy/b",
            "--boundary arn:aws:iam::111122223333:role/b",
            "--boundary arn:aws:iam::111122223333:policy",
            "--operator-role iamrole-operator",
            "--operator-role arn:aws:sts::111122223333:assumed-role/op/session",
            "--attach arn:aws:iam::111122223333:role/x",
            "--attach ${x}",
            "--policy-name a/b",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
