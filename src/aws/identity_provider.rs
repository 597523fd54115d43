//! OIDC providers: read only, and one call for all roles of an account. To make them is left to those who make clusters.

use super::account::Account;
use super::error::{AwsError, Kind};

impl Account {
    /// The client ids (audiences) of the OIDC provider; `None` if there is no such provider.
    pub async fn client_ids(&self, arn: &str) -> Result<Option<Vec<String>>, AwsError> {
        let call = self.iam.get_open_id_connect_provider().open_id_connect_provider_arn(arn).send();
        match self.call("iam:GetOpenIDConnectProvider", &format!("OIDC provider {arn}"), call).await {
            Ok(answer) => Ok(Some(answer.client_id_list().to_vec())),
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
