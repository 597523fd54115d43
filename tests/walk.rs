//! Walks over an account read every page, and keep nothing of a role that nobody asked about. The emulators put
//! everything on one page of `GetAccountAuthorizationDetails`, so a stand-in pages here.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use axum::Router;
use axum::extract::State;
use iamrole_operator::aws::{Account, Aws};
use iamrole_operator::telemetry::Metrics;
use std::sync::{Arc, Mutex};

const ACCOUNT: &str = "111122223333";
/// Roles and policies in the account, and how many are on a page.
const THERE: usize = 2345;
const PAGE: usize = 1000;

type Calls = Arc<Mutex<Vec<String>>>;

fn role(i: usize) -> String {
    let trust =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}"#;
    let trust = percent_encoding::utf8_percent_encode(trust, percent_encoding::NON_ALPHANUMERIC);
    format!(
        "<member><RoleName>role-{i}</RoleName><RoleId>AROA{i}</RoleId><Path>/p/</Path><Description>d{i}</Description>\
         <Arn>arn:aws:iam::{ACCOUNT}:role/p/role-{i}</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate>\
         <MaxSessionDuration>7200</MaxSessionDuration><AssumeRolePolicyDocument>{trust}</AssumeRolePolicyDocument>\
         <Tags><member><Key>i</Key><Value>{i}</Value></member></Tags>\
         <PermissionsBoundary><PermissionsBoundaryArn>arn:aws:iam::{ACCOUNT}:policy/b</PermissionsBoundaryArn></PermissionsBoundary>\
         <RolePolicyList><member><PolicyName>inline</PolicyName><PolicyDocument>{trust}</PolicyDocument></member></RolePolicyList>\
         <AttachedManagedPolicies><member><PolicyName>x</PolicyName><PolicyArn>arn:aws:iam::aws:policy/x</PolicyArn></member></AttachedManagedPolicies>\
         <InstanceProfileList><member><Path>/</Path><InstanceProfileName>profile-{i}</InstanceProfileName>\
         <InstanceProfileId>AIPA{i}</InstanceProfileId><Arn>arn:aws:iam::{ACCOUNT}:instance-profile/profile-{i}</Arn>\
         <CreateDate>2026-01-01T00:00:00Z</CreateDate><Roles></Roles></member></InstanceProfileList></member>"
    )
}

fn policy(i: usize) -> String {
    format!(
        "<member><Arn>arn:aws:iam::{ACCOUNT}:policy/p{i}</Arn><PolicyId>ANPA{i}</PolicyId>\
         <DefaultVersionId>v{}</DefaultVersionId></member>",
        i % 5 + 1
    )
}

async fn serve(State(calls): State<Calls>, body: String) -> String {
    let parameter = |name: &str| {
        let of = |pair: &str| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
        body.split('&').find_map(of)
    };
    let action = parameter("Action").expect("an action");
    calls.lock().unwrap().push(action.clone());
    let list = |name: &str, member: fn(usize) -> String| {
        assert_eq!(parameter("MaxItems").as_deref(), Some("1000"), "as few calls as can be");
        let from: usize = parameter("Marker").map_or(0, |marker| marker.parse().expect("our marker"));
        let to = (from + PAGE).min(THERE);
        let members: String = (from..to).map(member).collect();
        let more = if to < THERE { format!("<Marker>{to}</Marker>") } else { String::new() };
        format!("<{name}>{members}</{name}><IsTruncated>{}</IsTruncated>{more}", to < THERE)
    };
    let result = match action.as_str() {
        "GetCallerIdentity" => format!("<Arn>arn:aws:iam::{ACCOUNT}:user/u</Arn><Account>{ACCOUNT}</Account>"),
        "GetAccountSummary" => {
            "<SummaryMap><entry><key>Roles</key><value>2345</value></entry><entry><key>Policies</key>\
                                <value>7</value></entry></SummaryMap>"
                .to_owned()
        }
        "ListRoles" => list("Roles", role),
        "GetAccountAuthorizationDetails" => list("RoleDetailList", role),
        "ListPolicies" => list("Policies", policy),
        other => panic!("{other}"),
    };
    format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>")
}

async fn account() -> (Arc<Account>, Calls) {
    let calls = Calls::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = Router::new().fallback(serve).with_state(calls.clone());
    tokio::spawn(async move { axum::serve(listener, server).await });
    let keys = SharedCredentialsProvider::new(Credentials::new("AKIA", "secret", None, None, "test"));
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("us-east-1"))
        .credentials_provider(keys)
        .endpoint_url(format!("http://{address}"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .load()
        .await;
    let account = Aws::new(config, Metrics::default()).identify(None, None).await.expect("an identity");
    calls.lock().unwrap().clear();
    (account, calls)
}

fn asked(calls: &Calls) -> Vec<String> {
    std::mem::take(&mut calls.lock().unwrap())
}

#[tokio::test]
async fn every_page_is_read_and_only_what_is_wanted_is_kept() {
    let (account, calls) = account().await;
    let usage = account.usage.expect("the summary tells");
    assert_eq!((usage.roles, usage.policies), (THERE, 7));

    let (mut pages, mut listed) = (0, Vec::new());
    let wanted = |name: &str| ["role-0", "role-999", "role-1000", "role-2344"].contains(&name);
    let take = |page: Vec<_>| {
        pages += 1;
        listed.extend(page);
    };
    assert_eq!(account.walk_roles(&wanted, take).await.expect("a walk"), THERE);
    assert_eq!((pages, listed.len(), asked(&calls)), (3, 4, vec!["ListRoles".to_owned(); 3]));
    let last = listed.last().unwrap();
    assert_eq!((last.name.as_str(), last.id.as_str()), ("role-2344", "AROA2344"));
    assert_eq!((last.description.as_str(), last.max_session), ("d2344", 7200));

    let mut details = Vec::new();
    let take = |page: Vec<_>| details.extend(page);
    account
        .walk_details(&|role| wanted(role.name) || role.tag("i").as_deref() == Some("5"), take)
        .await
        .expect("a walk");
    assert_eq!((details.len(), asked(&calls).len()), (5, 3));
    let found = details.iter().find(|role| role.name == "role-5").expect("by its tag");
    assert_eq!(found.boundary.as_deref(), Some("arn:aws:iam::111122223333:policy/b"));
    assert_eq!((found.path.as_str(), found.tags["i"].as_str(), found.id.as_str()), ("/p/", "5", "AROA5"));
    assert!(found.managed.contains("arn:aws:iam::aws:policy/x") && found.profiles.contains("profile-5"));
    assert_eq!(found.inline.keys().collect::<Vec<_>>(), ["inline"]);

    let mut policies = Vec::new();
    account.walk_policies(|page| policies.extend(page)).await.expect("a walk");
    assert_eq!((policies.len(), asked(&calls).len()), (THERE, 3));
    assert_eq!((policies[6].id.as_str(), policies[6].version.as_str()), ("ANPA6", "v2"));
}
