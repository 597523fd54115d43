//! SDK errors, classified once by their wire code.
//!
//! Never by SDK enum variant: half of the codes that matter (AccessDenied, Throttling, ValidationError) are
//! in no model. A credentials failure has no code at all and is found in the chain of sources.

use crate::api::Reason;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_iam::config::http::HttpResponse;
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use std::error::Error as StdError;

/// What an error means for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `NoSuchEntity`.
    NotFound,
    /// `EntityAlreadyExists`.
    AlreadyExists,
    /// `DeleteConflict`: something still hangs on it.
    DeleteConflict,
    /// AWS does not take the input as it is written.
    Invalid,
    /// AWS denied the call.
    Denied,
    /// No usable credentials.
    NoCredentials,
    /// The trust policy names a principal that does not exist (yet).
    PrincipalNotFound,
    /// A policy to attach or the boundary does not exist (yet).
    PolicyNotFound,
    /// A quota is used up.
    Quota,
    /// A policy or an attachment is refused.
    PolicyRejected,
    /// Any other refusal with a code.
    Rejected,
    /// The account is throttled, or the entity is being changed by somebody else.
    Busy,
    /// No usable answer; nothing is known about the effect.
    Transient,
}

impl Kind {
    /// The reason as users see it.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::NotFound | Self::AlreadyExists | Self::Rejected => Reason::Rejected,
            Self::DeleteConflict => Reason::DeleteBlocked,
            Self::Invalid => Reason::InvalidSpec,
            Self::Denied => Reason::AccessDenied,
            Self::NoCredentials => Reason::NoCredentials,
            Self::PrincipalNotFound => Reason::PrincipalNotFound,
            Self::PolicyNotFound => Reason::PolicyNotFound,
            Self::Quota => Reason::QuotaExceeded,
            Self::PolicyRejected => Reason::PolicyRejected,
            Self::Busy => Reason::Busy,
            Self::Transient => Reason::Unavailable,
        }
    }

    /// Label of the metric of AWS calls.
    #[must_use]
    pub const fn outcome(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            other => other.reason().as_str(),
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Invalid => "Correct the spec as the message says.",
            Self::Denied => "Grant the action to the operator's AWS identity; it is retried by itself.",
            Self::NoCredentials => {
                "Give the operator an AWS identity (IRSA, EKS Pod Identity or environment) or renew it."
            }
            Self::PrincipalNotFound => "Create the principal, or correct its ARN; it is retried by itself.",
            Self::PolicyNotFound => {
                "Create the policy or correct its name (AWS-managed ones may need their path, such as service-role/…)."
            }
            Self::Quota => "Remove something, or ask AWS for a higher quota.",
            Self::PolicyRejected => "Use another policy, or correct the document.",
            Self::DeleteConflict => "Remove what still uses it; it is retried by itself.",
            Self::NotFound | Self::AlreadyExists | Self::Rejected => "See the message; it is retried slowly.",
            Self::Busy | Self::Transient => "It is retried by itself.",
        }
    }
}

/// The HTTP status of a refusal for too many calls, whatever its code.
pub(super) const TOO_MANY: u16 = 429;
/// In the ARN of a session, before the names of the role and the session.
const ASSUMED: &str = ":assumed-role/";

/// A call to AWS that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct AwsError {
    /// What it means.
    pub kind: Kind,
    /// The call, such as `iam:CreateRole`.
    pub call: &'static str,
    /// What it was done to.
    pub target: String,
    /// AWS's code; absent where there was no answer.
    pub code: Option<String>,
    /// AWS's message. Stable for a stable cause: no request ids, no times, no sessions.
    pub message: String,
}

impl AwsError {
    fn text(&self) -> String {
        let Self { kind, call, target, code, message } = self;
        let code = code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
        let verb = match kind {
            Kind::Denied => "AWS denied",
            Kind::Busy | Kind::Transient => "AWS did not complete",
            Kind::NoCredentials => "No usable AWS credentials for",
            _ => "AWS refused",
        };
        let message = message.trim_end_matches('.');
        let said = if message.is_empty() { String::new() } else { format!(": {message}") };
        format!("{verb} {call} on {target}{code}{said}. {}", kind.remedy())
    }

    /// Classifies an SDK error of `call` on `target`.
    pub fn new<E>(call: &'static str, target: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.code().map(str::to_owned);
        let said = error.message().unwrap_or_default();
        let kind = match (&code, status) {
            _ if has_credentials_error(error) => no_session(error).unwrap_or(Kind::NoCredentials),
            (_, Some(TOO_MANY)) => Kind::Busy,
            (Some(code), _) => by_code(code, said, call, target).unwrap_or(match status {
                Some(status) if status >= 500 => Kind::Transient,
                _ => Kind::Rejected,
            }),
            (None, _) => Kind::Transient,
        };
        let message = match kind {
            Kind::NoCredentials => one_line(&without_sessions(&refused_session(error))),
            // It carries a time or the like, which would make each message new.
            Kind::Busy => String::new(),
            Kind::Transient => transient(error, status).to_owned(),
            // A policy may name a session on purpose; who is denied is us.
            Kind::Denied => one_line(&without_sessions(said)),
            _ => one_line(said),
        };
        Self { kind, call, target: target.to_owned(), code, message }
    }
}

/// A text in which roles are named without their session: that is another one after each renewal, and would make news of
/// what is said of it.
pub(super) fn without_sessions(text: &str) -> String {
    let mut parts = text.split(ASSUMED);
    let mut stays = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // As STS bounds the names of sessions.
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
        let (role, session) = part.split_once('/').unwrap_or((part, ""));
        stays.extend([ASSUMED, role]);
        stays.push_str(session.trim_start_matches(is_of_name));
    }
    stays
}

fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > 600 {
        let cut = (0..=600).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(cut);
        line.push('…');
    }
    line
}

fn transient<E>(error: &SdkError<E, HttpResponse>, status: Option<u16>) -> &'static str {
    match error {
        SdkError::TimeoutError(_) => "no answer in time",
        SdkError::DispatchFailure(_) => "the endpoint can't be reached",
        SdkError::ResponseError(_) => "the answer was cut or garbled",
        _ if status.is_some_and(|status| status >= 500) => "AWS answered with a server error",
        _ => "the call could not be made",
    }
}

/// What STS says where it gives no session; credential providers' own words carry times and ports, and are left out.
fn refused_session(error: &(dyn StdError + 'static)) -> String {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<AssumeRoleError>() {
            let code = error.code().unwrap_or_default();
            return format!("sts:AssumeRole was refused ({code}): {}", error.message().unwrap_or_default());
        }
        next = error.source();
    }
    String::new()
}

/// Why STS gave no session, where it is not for lack of leave: it did not answer, or has too much to do.
fn no_session(error: &(dyn StdError + 'static)) -> Option<Kind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(CredentialsError::ProviderTimedOut(_))) {
            return Some(Kind::Transient);
        }
        let kind = error.downcast_ref().map(of_sts::<AssumeRoleError>);
        let kind = kind.or_else(|| error.downcast_ref().map(of_sts::<AssumeRoleWithWebIdentityError>));
        if let Some(kind) = kind {
            return kind;
        }
        next = error.source();
    }
    None
}

fn of_sts<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<Kind> {
    let status = error.raw_response().map(|response| response.status().as_u16());
    match (error.code(), status) {
        (Some(code), _) if is_throttling(code) => Some(Kind::Busy),
        (_, Some(status)) if status >= 500 => Some(Kind::Transient),
        (Some(_), _) => None,
        (None, _) => Some(Kind::Transient),
    }
}

fn has_credentials_error(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<CredentialsError>() {
            return true;
        }
        next = error.source();
    }
    false
}

fn by_code(code: &str, message: &str, call: &str, target: &str) -> Option<Kind> {
    Some(match code {
        "NoSuchEntity" => missing(message, call, target),
        // Those of EKS end in Exception.
        "ResourceNotFoundException" => Kind::NotFound,
        "EntityAlreadyExists" | "ResourceInUseException" => Kind::AlreadyExists,
        "DeleteConflict" => Kind::DeleteConflict,
        "MalformedPolicyDocument" if message.contains("Invalid principal") => Kind::PrincipalNotFound,
        "MalformedPolicyDocument"
        | "ValidationError"
        | "InvalidInput"
        | "InvalidParameterValue"
        | "InvalidParameter" => Kind::Invalid,
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => Kind::Denied,
        "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidIdentityToken"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "InvalidAccessKeyId"
        | "AuthFailure"
        | "RequestExpired"
        | "UnrecognizedClientException" => Kind::NoCredentials,
        "LimitExceeded" | "ResourceLimitExceededException" => Kind::Quota,
        "PolicyNotAttachable" => Kind::PolicyRejected,
        "ConcurrentModification" | "EntityTemporarilyUnmodifiable" => Kind::Busy,
        _ if is_throttling(code) => Kind::Busy,
        "ServiceFailure" | "InternalFailure" | "InternalError" | "ServiceUnavailable" | "RequestTimeout" => {
            Kind::Transient
        }
        _ => return None,
    })
}

/// Whether AWS refuses calls for being too many, not this one for what it is.
pub(super) fn is_throttling(code: &str) -> bool {
    ["Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown"]
        .contains(&code)
}

/// `NoSuchEntity` of a call on a role may be about the role or about the policy that it names.
fn missing(message: &str, call: &str, target: &str) -> Kind {
    let lower = message.to_lowercase();
    let names_policy = match call {
        "iam:CreateRole" => true,
        "iam:AttachRolePolicy" | "iam:PutRolePermissionsBoundary" => {
            message.contains(target) || lower.contains("policy")
        }
        _ => false,
    };
    if names_policy { Kind::PolicyNotFound } else { Kind::NotFound }
}

#[cfg(test)]
mod tests {
    use super::{AwsError, Kind, by_code, without_sessions};
    use crate::api::Reason;

    #[test]
    fn codes_lead_to_what_is_done_next() {
        let ask = |code, message, call| by_code(code, message, call, "arn:aws:iam::1:policy/p");
        for (code, message, call, kind) in [
            ("NoSuchEntity", "The role with name x cannot be found.", "iam:GetRole", Kind::NotFound),
            ("NoSuchEntity", "The role with name x cannot be found.", "iam:AttachRolePolicy", Kind::NotFound),
            (
                "NoSuchEntity",
                "Policy arn:aws:iam::1:policy/p does not exist or is not attachable.",
                "iam:AttachRolePolicy",
                Kind::PolicyNotFound,
            ),
            ("NoSuchEntity", "Scope ARN: arn:… does not exist", "iam:CreateRole", Kind::PolicyNotFound),
            ("MalformedPolicyDocument", "Invalid principal in policy: …", "iam:CreateRole", Kind::PrincipalNotFound),
            ("MalformedPolicyDocument", "Syntax errors in policy.", "iam:CreateRole", Kind::Invalid),
            ("AccessDenied", "", "iam:CreateRole", Kind::Denied),
            ("ExpiredToken", "", "iam:CreateRole", Kind::NoCredentials),
            ("LimitExceeded", "Cannot exceed quota", "iam:CreateRole", Kind::Quota),
            ("Throttling", "Rate exceeded", "iam:CreateRole", Kind::Busy),
            ("ConcurrentModification", "", "iam:CreateRole", Kind::Busy),
            ("PolicyNotAttachable", "", "iam:AttachRolePolicy", Kind::PolicyRejected),
        ] {
            assert_eq!(ask(code, message, call), Some(kind), "{code} {call}");
        }
        assert_eq!(
            ask("UnmodifiableEntity", "", "iam:UpdateRole"),
            None,
            "left to the status: Rejected, with its code"
        );
    }

    #[test]
    fn a_text_is_the_same_in_each_session() {
        let role = "arn:aws:sts::111122223333:assumed-role/operator";
        for session in ["web-identity-token-1795664444592", "eks-prod-iamrole-operator-0-6f1c", "a@b.c,d=e+f_g"] {
            assert_eq!(without_sessions(&format!("{role}/{session}")), role);
            let denied =
                |who: &str| format!("User: {who} is not authorized to perform: sts:AssumeRole on resource: x/y/z");
            assert_eq!(without_sessions(&denied(&format!("{role}/{session}"))), denied(role));
            let twice = format!("({role}/{session}) and {role}/{session}: no");
            assert_eq!(without_sessions(&twice), format!("({role}) and {role}: no"));
        }
        for other in ["arn:aws:iam::111122223333:user/team/operator", "arn:aws:iam::111122223333:root", "", role] {
            assert_eq!(without_sessions(other), other);
        }
    }

    #[test]
    fn a_message_names_call_target_and_remedy() {
        let error = AwsError {
            kind: Kind::Denied,
            call: "iam:CreateRole",
            target: "role prod.shop.api".into(),
            code: Some("AccessDenied".into()),
            message: "User: x is not authorized.".into(),
        };
        assert_eq!(
            error.to_string(),
            "AWS denied iam:CreateRole on role prod.shop.api (AccessDenied): User: x is not authorized. Grant the \
             action to the operator's AWS identity; it is retried by itself."
        );
        assert_eq!(error.kind.reason(), Reason::AccessDenied);
    }
}
