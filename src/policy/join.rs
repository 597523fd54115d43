//! A document of two.

use super::document::Document;

impl Document {
    /// The document with the statements of another one of the same grammar after its own. Version and id stay; that no
    /// `Sid` is in both is up to the caller.
    #[must_use]
    pub fn with_statements_of(mut self, other: Self) -> Self {
        self.statements.extend(other.statements);
        self
    }
}
