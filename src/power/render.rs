//! The policy as text: alone, or as part of a Terraform configuration or a `CloudFormation` template.

use super::{Options, Policy};
use crate::policy::{Arn, Limits};
use serde::Serialize;
use std::fmt::Write as _;

/// How the policy is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The document alone, as IAM's own API takes it.
    Json,
    /// An `aws_iam_policy`, attached to the operator's role if that is known.
    Terraform,
    /// A template with an `AWS::IAM::ManagedPolicy`, attached to the operator's role if that is known.
    Cloudformation,
}

/// The policy can't be written.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A managed policy has a quota that nobody can raise.
    #[error(
        "the policy would have {size} characters and a managed policy may have {limit}: give fewer or shorter \
         --attach, --boundary and --take-over (patterns cover several), or a shorter --path"
    )]
    Size {
        /// Its size without white space.
        size: usize,
        /// The quota.
        limit: usize,
    },
    /// JSON.
    #[error("writing JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// YAML.
    #[error("writing YAML: {0}")]
    Yaml(String),
}

impl Policy {
    /// Its size as IAM counts it: the characters that are not white space.
    pub fn size(&self) -> Result<usize, RenderError> {
        Ok(serde_json::to_string(self)?.chars().filter(|c| !c.is_whitespace()).count())
    }

    /// The text in a format, ending in a line break. Refuses what is too large for a managed policy.
    pub fn render(&self, options: &Options, format: Format) -> Result<String, RenderError> {
        let (size, limit) = (self.size()?, Limits::default().managed);
        if size > limit {
            return Err(RenderError::Size { size, limit });
        }
        let json = serde_json::to_string_pretty(self)?;
        match format {
            Format::Json => Ok(json + "\n"),
            Format::Terraform => Ok(terraform(options, &json)),
            Format::Cloudformation => self.cloudformation(options),
        }
    }

    fn cloudformation(&self, options: &Options) -> Result<String, RenderError> {
        let (roles, users) = match identity(options) {
            Some(("user", name)) => (Vec::new(), vec![name]),
            Some((_, name)) => (vec![name], Vec::new()),
            None => (Vec::new(), Vec::new()),
        };
        let template = Template {
            version: "2010-09-09",
            description: DESCRIPTION,
            resources: Resources {
                policy: Resource {
                    kind: "AWS::IAM::ManagedPolicy",
                    properties: Properties {
                        name: options.policy_name.clone(),
                        description: DESCRIPTION,
                        roles,
                        users,
                        document: self,
                    },
                },
            },
        };
        serde_saphyr::to_string(&template).map_err(|error| RenderError::Yaml(error.to_string()))
    }
}

const DESCRIPTION: &str = "What iamrole-operator may do";

fn terraform(options: &Options, json: &str) -> String {
    let name = &options.policy_name;
    // In a heredoc these begin Terraform's own templates.
    let json = json.replace("${", "$${").replace("%{", "%%{");
    let indented: Vec<String> = json.lines().map(|line| format!("    {line}")).collect();
    let mut text = format!(
        "resource \"aws_iam_policy\" \"iamrole_operator\" {{\n  name        = \"{name}\"\n  description = \
         \"{DESCRIPTION}\"\n  policy      = <<-JSON\n{}\n  JSON\n}}\n",
        indented.join("\n")
    );
    if let Some((kind, name)) = identity(options) {
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "\nresource \"aws_iam_{kind}_policy_attachment\" \"iamrole_operator\" {{\n  {kind:<10} = \"{name}\"\n  \
             policy_arn = aws_iam_policy.iamrole_operator.arn\n}}\n"
        );
    }
    text
}

/// `role` or `user`, and its name.
fn identity(options: &Options) -> Option<(&'static str, String)> {
    let arn: Arn = options.identity.as_ref()?.parse().ok()?;
    Some((if arn.kind() == "user" { "user" } else { "role" }, arn.name().to_owned()))
}

#[derive(Serialize)]
struct Template<'a> {
    #[serde(rename = "AWSTemplateFormatVersion")]
    version: &'static str,
    #[serde(rename = "Description")]
    description: &'static str,
    #[serde(rename = "Resources")]
    resources: Resources<'a>,
}

#[derive(Serialize)]
struct Resources<'a> {
    #[serde(rename = "OperatorPolicy")]
    policy: Resource<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Resource<'a> {
    #[serde(rename = "Type")]
    kind: &'static str,
    properties: Properties<'a>,
}

#[derive(Serialize)]
struct Properties<'a> {
    #[serde(rename = "ManagedPolicyName")]
    name: String,
    #[serde(rename = "Description")]
    description: &'static str,
    #[serde(rename = "Roles", skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    #[serde(rename = "Users", skip_serializing_if = "Vec::is_empty")]
    users: Vec<String>,
    #[serde(rename = "PolicyDocument")]
    document: &'a Policy,
}
