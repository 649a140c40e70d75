//! Text that many records have in common, held once: twenty thousand workloads make the same few hundred mistakes.

use std::{collections::HashSet, sync::Arc};

use crate::policy::finding::Fix;

/// What was seen before.
#[derive(Debug, Default)]
pub(super) struct Texts {
    texts: HashSet<Arc<str>>,
    fixes: HashSet<Arc<Fix>>,
}

// === impl Texts ===

impl Texts {
    pub(super) fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    pub(super) fn fix(&mut self, fix: Fix) -> Arc<Fix> {
        if let Some(known) = self.fixes.get(&fix) {
            return Arc::clone(known);
        }
        let fix = Arc::new(fix);
        self.fixes.insert(Arc::clone(&fix));
        fix
    }
}
