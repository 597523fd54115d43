//! The emulated AWS that asks IAM policies before it does what a call asks for; see `tests/rig/ministack/serve`.

use super::{env, eventually, proxy};
use aws_sdk_iam::Client;
use aws_sdk_iam::config::{BehaviorVersion, Credentials, Region};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// Its account.
pub const ACCOUNT: &str = "000000000000";

/// A ministack of this test alone. It ends with its standard input, which ends with this process at the latest.
pub struct Ministack {
    pub url: String,
    /// May do everything.
    pub root: Client,
    child: Child,
}

impl Ministack {
    pub async fn start() -> Self {
        // Set by the rig, which has to be up for the Kubernetes part anyway.
        env("RIG_DIR");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let rig = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rig/rig");
        let child = Command::new(rig)
            .args(["ministack", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the rig's ministack");
        let url = format!("http://127.0.0.1:{port}");
        let health = format!("{url}/_ministack/health");
        // The first time it is installed.
        let ready =
            eventually(Duration::from_mins(4), || async { matches!(proxy::get(&health).await, Some((200, _))) });
        assert!(ready.await, "ministack never got ready; its output is above");
        Self { root: client(&url, "test", "test"), url, child }
    }

    /// The process.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// A user with an access key, and nothing that he may do; see [`User::may`].
    pub async fn user(&self, name: &str) -> User {
        self.root.create_user().user_name(name).send().await.expect("a user");
        let key = self.root.create_access_key().user_name(name).send().await.expect("a key").access_key;
        let key = key.expect("a key");
        User { name: name.to_owned(), id: key.access_key_id, secret: key.secret_access_key, root: self.root.clone() }
    }
}

/// An IAM user.
pub struct User {
    pub name: String,
    pub id: String,
    pub secret: String,
    root: Client,
}

impl User {
    /// From now on this policy is all that he may do.
    pub async fn may(&self, policy: &serde_json::Value) {
        let call = self.root.put_user_policy().user_name(&self.name).policy_name("power");
        call.policy_document(policy.to_string()).send().await.expect("a policy");
    }

    /// A client with his key.
    pub fn client(&self, url: &str) -> Client {
        client(url, &self.id, &self.secret)
    }

    /// The environment of an operator that is this user.
    pub fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID".to_owned(), self.id.clone()),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), self.secret.clone()),
        ]
    }
}

fn client(url: &str, id: &str, secret: &str) -> Client {
    let config = aws_sdk_iam::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(url)
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}
