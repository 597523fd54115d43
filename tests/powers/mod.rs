//! The operator with the keys of a user of an emulated AWS that asks policies.

#![allow(dead_code, reason = "each test file uses a part")]

use crate::support::ministack::{ACCOUNT, Ministack, User};
use crate::support::{World, allow, aws, ec2};
use iamrole_operator::api::IamRoleClassSpec;
use serde_json::{Value, json};
use std::process::Command;

pub const READ_ONLY: &str = "arn:aws:iam::aws:policy/ReadOnlyAccess";
pub const POWER: &str = "arn:aws:iam::aws:policy/PowerUserAccess";

/// A world on ministack whose operator has the keys of a user who may do nothing yet.
pub struct Powers {
    pub ministack: Ministack,
    pub user: User,
    pub world: World,
}

impl Powers {
    pub async fn new(test: &str, change: impl FnOnce(&mut IamRoleClassSpec)) -> Self {
        let ministack = Ministack::start().await;
        for name in ["boundary", "other-boundary"] {
            aws::foreign_policy(&ministack.root, name).await;
        }
        let user = ministack.user("iamrole-operator").await;
        let mut world = World::on(test, &ministack.url, ministack.root.clone(), change).await;
        world.operator.environment = user.environment();
        Self { ministack, user, world }
    }

    /// What `iamrole aws-policy` prints.
    pub async fn policy(&self, options: &[&str]) -> Value {
        let [(_, cluster), ..] = self.world.owner_tags("any", "Created").await;
        let run = Command::new(env!("CARGO_BIN_EXE_iamrole"))
            .args(["aws-policy", "--account", ACCOUNT])
            .args(options.iter().map(|option| option.replace("CLUSTER", &cluster)))
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        serde_json::from_slice(&run.stdout).unwrap()
    }

    /// No call of the operator so far was denied.
    pub async fn nothing_was_denied(&self) {
        let (_, metrics) = self.world.operator.get("/metrics").await.unwrap();
        assert!(metrics.contains("iamrole_aws_calls"), "{metrics}");
        let denied: Vec<&str> = metrics.lines().filter(|line| line.contains("AccessDenied")).collect();
        assert!(denied.is_empty(), "{denied:#?}\n{}", self.world.operator.log());
    }
}

pub fn policy_arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:policy/{name}")
}

/// A role with everything that a role can have.
pub fn everything() -> Value {
    json!({
        "trustPolicy": ec2(), "description": "one", "maxSessionDurationSeconds": 7200,
        "tags": { "team": "shop", "cost": "1" }, "managedPolicies": [READ_ONLY],
        "inlinePolicies": [{ "name": "inline", "document": allow("s3:GetObject") }],
        "customerManagedPolicies": [{ "name": "own", "document": allow("sqs:SendMessage") }],
        "instanceProfile": {},
    })
}
