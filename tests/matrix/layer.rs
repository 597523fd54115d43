//! Which faults the clients below the operator make the same of: what lets the matrix run one for several.

use super::cluster::{Cluster, NAME};
use super::faults::{Fault, Script, faults};
use super::iam::Iam;
use super::meaning::Laws;
use super::world::{Call, World};
use super::{lives, operator};
use iamrole_operator::controller::failure::Failure;
use iamrole_operator::role::{Action, Asked, plan};
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How it ended for the operator, what became of IAM, and the calls.
type Outcome = (String, Iam, Vec<Call>);

fn script(position: usize, fault: Fault) -> Script {
    Script { position, fault, killed: false, lag: Duration::ZERO }
}

fn world(script: Option<Script>) -> Arc<World> {
    let laws = Laws {
        role: NAME.to_owned(),
        ends: None,
        strangers: BTreeSet::new(),
        adoptable: true,
        heir_of: vec![],
        keeps: false,
    };
    let mut cluster = Cluster::new(&json!({ "namespaceSelector": {} }));
    cluster.apply(&json!({}));
    let world = World::new(lives::furnished(), cluster, laws, script, None);
    world.lock().begin();
    world
}

/// Everything that can be done to the furnished account, one by one.
fn actions() -> Vec<(&'static str, Action)> {
    let desired = crate::model::want(&lives::wanted(), iamrole_operator::policy::Limits::default());
    let created = plan::create(&desired).steps.into_iter().map(|step| step.action);
    let document = desired.inline.values().next().expect("a document").clone();
    let arn = crate::model::arn;
    let more = [
        Action::TagRole([("a".to_owned(), "b".to_owned())].into()),
        Action::UntagRole(["owner".to_owned()].into()),
        Action::UpdateRole { description: "new".to_owned(), max_session: 7200 },
        Action::PutBoundary(arn("Fence")),
        Action::DeleteBoundary,
        Action::UpdateTrust(desired.trust.clone()),
        Action::UpdatePolicy { arn: arn("loose"), document },
        Action::Detach(arn("shared")),
        Action::DeleteInline("mine".to_owned()),
        Action::DeletePolicy(arn("loose")),
    ];
    let of = |action: Action| (if matches!(action, Action::CreateRole { .. }) { "new" } else { NAME }, action);
    created.chain(more).map(of).chain([("bare", Action::DeleteRole)]).collect()
}

async fn write(action: &(&str, Action), script: Option<Script>) -> Outcome {
    let world = world(script);
    let account = operator::account(&world).await;
    let result = account.execute(action.0, &action.1).await.map_err(|error| error.kind);
    let inner = world.lock();
    (format!("{result:?}"), inner.iam.clone(), inner.calls.clone())
}

async fn read(script: Option<Script>) -> Outcome {
    let world = world(script);
    let policies = [crate::model::arn("loose"), crate::model::arn("gone")].into();
    let asked = Asked { policies, ..Asked::default() };
    let result = operator::account(&world).await.observe(NAME, &asked).await.map_err(|error| error.kind);
    let inner = world.lock();
    (format!("{:?}", result.map(|state| (state.role, state.own))), inner.iam.clone(), inner.calls.clone())
}

/// Every fault at every call is for the operator what its representative is; returns how many were compared.
async fn compare<F: Future<Output = Outcome>>(what: &str, run: impl Fn(Option<Script>) -> F) -> usize {
    let (mut compared, healthy) = (0, run(None).await);
    for (position, call) in healthy.2.iter().enumerate() {
        for fault in faults(call.side, &call.what) {
            let wanted = match fault.representative(call.side, &call.what) {
                Some(same) if same == fault => continue,
                Some(other) => run(Some(script(position, other))).await,
                None => healthy.clone(),
            };
            let found = run(Some(script(position, fault))).await;
            assert_eq!((&found.0, &found.1), (&wanted.0, &wanted.1), "{what}, {fault:?} at {}", call.what);
            compared += 1;
        }
    }
    compared
}

#[tokio::test(start_paused = true)]
async fn the_client_of_aws_takes_some_faults_for_the_same() {
    let mut compared = compare("reading", read).await;
    for action in &actions() {
        let one = compare(action.1.name(), |script| write(action, script)).await;
        assert!(one > 0, "{action:?}");
        compared += one;
    }
    println!("{compared} faults are like another one");
}

#[tokio::test(start_paused = true)]
async fn the_client_of_kubernetes_takes_some_faults_for_the_same() {
    let path = format!("/apis/iamrole.dev/v1alpha1/namespaces/shop/iamroles/{NAME}/status");
    let call = format!("PUT {path}");
    let put = |fault: Fault| async move {
        let world = world(Some(script(0, fault)));
        let object = operator::object(&world).with_status(&json!({ "accountId": "1" })).expect("a status");
        let api: Api<_> = Api::namespaced(operator::kubernetes(&world), super::cluster::NAMESPACE);
        let failure: Option<Failure> =
            api.replace_status(NAME, &PostParams::default(), &object).await.err().map(Failure::from);
        let status = world.lock().cluster.role.as_ref().map_or(Value::Null, |role| role["status"].clone());
        (failure.map(|failure| (failure.reason, failure.retry)), status)
    };
    let side = super::faults::Side::Kubernetes;
    for fault in faults(side, &call) {
        let same = fault.representative(side, &call).expect("an error");
        assert_eq!(put(fault).await, put(same).await, "{fault:?} and {same:?}");
    }
}
