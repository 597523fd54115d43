//! Which class a role belongs to.

use super::failure::Failure;
use crate::api::iamroleclass::IamRoleClass;
use crate::api::{ANNOTATION_DEFAULT_CLASS, DEFAULT_CONTROLLER, Reason};
use kube::ResourceExt as _;
use kube::runtime::reflector::{ObjectRef, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where classes are found: one by its name, or all of them.
pub trait Classes {
    /// The class of that name.
    fn named(&self, name: &str) -> Option<Arc<IamRoleClass>>;
    /// All of them.
    fn all(&self) -> Vec<Arc<IamRoleClass>>;
}

impl Classes for Store<IamRoleClass> {
    fn named(&self, name: &str) -> Option<Arc<IamRoleClass>> {
        self.get(&ObjectRef::new(name))
    }

    fn all(&self) -> Vec<Arc<IamRoleClass>> {
        self.state()
    }
}

/// The class of a role in a namespace with `labels`.
///
/// `named` is `spec.roleClassName`; without it the class that status remembers counts, and without that
/// the default class that selects the namespace. A class that another installation serves yields
/// `Ok(None)`: the role is not ours to touch.
pub fn class_for(
    classes: &impl Classes,
    controller: &str,
    named: Option<&str>,
    remembered: Option<&str>,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Result<Option<Arc<IamRoleClass>>, Failure> {
    let class = match named.or(remembered) {
        Some(name) => by_name(classes, name)?,
        None => default_class(&classes.all(), namespace, labels)?,
    };
    if !class.spec.namespace_selector.matches(labels) {
        return Err(no_class(format!(
            "IamRoleClass {} does not select namespace {namespace}; ask an admin to label the namespace as the class's \
             namespaceSelector says, or name another class in spec.roleClassName{TAKES_OVER}",
            class.name_any()
        )));
    }
    let serves = class.spec.controller.as_deref().unwrap_or(DEFAULT_CONTROLLER);
    Ok((serves == controller).then_some(class))
}

/// A role that exists is not to be had by naming another class.
const TAKES_OVER: &str = " (a role that exists needs one with this class in its takeOverClasses)";

fn by_name(classes: &impl Classes, name: &str) -> Result<Arc<IamRoleClass>, Failure> {
    match classes.named(name) {
        Some(class) if class.metadata.deletion_timestamp.is_none() => Ok(class),
        Some(_) => Err(no_class(format!(
            "IamRoleClass {name} is being deleted; name another one in spec.roleClassName{TAKES_OVER}"
        ))),
        None => Err(no_class(format!("there is no IamRoleClass {name}; see kubectl get iamroleclasses"))),
    }
}

/// The one default class that selects a namespace, whoever serves it.
pub fn default_class(
    classes: &[Arc<IamRoleClass>],
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Result<Arc<IamRoleClass>, Failure> {
    let is_default = |class: &&Arc<IamRoleClass>| {
        class.metadata.deletion_timestamp.is_none()
            && class.annotations().get(ANNOTATION_DEFAULT_CLASS).is_some_and(|value| value == "true")
            && class.spec.namespace_selector.matches(labels)
    };
    let mut matching: Vec<&Arc<IamRoleClass>> = classes.iter().filter(is_default).collect();
    matching.sort_by_key(|class| class.name_any());
    match matching.as_slice() {
        [class] => Ok(Arc::clone(class)),
        [] => Err(no_class(format!(
            "no default IamRoleClass selects namespace {namespace}; ask an admin to label it (the chart's default class \
             selects iamrole.dev/enabled=true), or name a class in spec.roleClassName"
        ))),
        several => Err(no_class(format!(
            "more than one default IamRoleClass selects namespace {namespace}: {}; name one in spec.roleClassName, or ask an \
             admin to label the namespace for one of them",
            several.iter().map(|class| class.name_any()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

fn no_class(message: String) -> Failure {
    Failure::soon(Reason::NoClass, message)
}

#[cfg(test)]
mod tests {
    use super::{Classes, class_for};
    use crate::api::schema::Selector;
    use crate::api::{ANNOTATION_DEFAULT_CLASS, DEFAULT_CONTROLLER, IamRoleClass, IamRoleClassSpec};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn class(name: &str, is_default: bool, label: Option<(&str, &str)>) -> IamRoleClass {
        let match_labels = label.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
        let spec = IamRoleClassSpec {
            namespace_selector: Selector { match_labels, ..Selector::default() },
            ..IamRoleClassSpec::default()
        };
        let mut class = IamRoleClass::new(name, spec);
        if is_default {
            class.metadata.annotations = Some(BTreeMap::from([(ANNOTATION_DEFAULT_CLASS.into(), "true".into())]));
        }
        class
    }

    impl Classes for Vec<Arc<IamRoleClass>> {
        fn named(&self, name: &str) -> Option<Arc<IamRoleClass>> {
            self.iter().find(|class| class.metadata.name.as_deref() == Some(name)).cloned()
        }

        fn all(&self) -> Vec<Arc<IamRoleClass>> {
            self.clone()
        }
    }

    fn ask(classes: &[IamRoleClass], named: Option<&str>, remembered: Option<&str>) -> Result<Option<String>, String> {
        let classes: Vec<_> = classes.iter().cloned().map(Arc::new).collect();
        let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        class_for(&classes, DEFAULT_CONTROLLER, named, remembered, "shop", &labels)
            .map(|class| class.and_then(|class| class.metadata.name.clone()))
            .map_err(|failure| failure.message)
    }

    #[test]
    fn the_default_class_is_the_one_that_selects_the_namespace() {
        let (mine, other) = (class("mine", true, Some(("team", "a"))), class("other", true, Some(("team", "b"))));
        assert_eq!(ask(&[mine.clone(), other.clone()], None, None), Ok(Some("mine".into())));
        assert!(ask(std::slice::from_ref(&other), None, None).unwrap_err().contains("no default IamRoleClass selects"));
        let everyone = class("everyone", true, None);
        let message = ask(&[mine.clone(), everyone], None, None).unwrap_err();
        assert!(message.contains("everyone, mine"), "{message}");
        assert_eq!(ask(&[mine, class("x", true, None)], None, Some("x")), Ok(Some("x".into())), "resolved once");
    }

    #[test]
    fn a_named_class_must_exist_select_the_namespace_and_be_ours() {
        let other = class("other", false, Some(("team", "b")));
        assert!(
            ask(std::slice::from_ref(&other), Some("other"), None)
                .unwrap_err()
                .contains("does not select namespace shop")
        );
        assert!(ask(&[other], Some("nope"), None).unwrap_err().contains("there is no IamRoleClass nope"));
        let mut elsewhere = class("elsewhere", false, None);
        elsewhere.spec.controller = Some("another.example/operator".into());
        assert_eq!(ask(&[elsewhere], Some("elsewhere"), None), Ok(None));
        let mut dying = class("dying", false, None);
        dying.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
        assert!(ask(&[dying], Some("dying"), None).unwrap_err().contains("is being deleted"));
    }
}
