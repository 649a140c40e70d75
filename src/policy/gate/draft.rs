//! A pod that is being changed, and the operations that do it.

use serde_json::{Value, json};

use crate::policy::operation::{Operation, escape};

/// A copy of an object, changed step by step; every step is kept.
#[derive(Debug)]
pub(super) struct Draft {
    object: Value,
    operations: Vec<Operation>,
}

/// The JSON pointer to a member.
pub(super) fn member(parent: &str, key: &str) -> String {
    format!("{parent}/{}", escape(key))
}

// === impl Draft ===

impl Draft {
    pub(super) fn of(object: &Value) -> Self {
        Self {
            object: object.clone(),
            operations: Vec::new(),
        }
    }

    pub(super) fn into_operations(self) -> Vec<Operation> {
        self.operations
    }

    /// The value at `pointer`. `null` is absent, as it is for the API server.
    pub(super) fn get(&self, pointer: &str) -> Option<&Value> {
        self.object
            .pointer(pointer)
            .filter(|value| !value.is_null())
    }

    /// Sets a member, and the maps above it where they are missing.
    pub(super) fn set(&mut self, pointer: &str, value: Value) {
        let path = pointer.to_owned();
        match self.get(pointer) {
            Some(old) if *old == value => {}
            Some(_) => self.step(Operation::Replace { path, value }),
            None => {
                if let Some((parent, _)) = pointer.rsplit_once('/')
                    && !parent.is_empty()
                    && self.get(parent).is_none()
                {
                    self.set(parent, json!({}));
                }
                self.step(Operation::Add { path, value });
            }
        }
    }

    /// Adds an item to the end of a list, which is made where it is missing.
    pub(super) fn append(&mut self, list: &str, item: Value) {
        match self.get(list).and_then(Value::as_array) {
            None => self.set(list, json!([item])),
            Some(items) => {
                let path = format!("{list}/{}", items.len());
                self.step(Operation::Add { path, value: item });
            }
        }
    }

    /// Takes a value away, if it is there.
    pub(super) fn remove(&mut self, pointer: &str) {
        if self.object.pointer(pointer).is_some() {
            self.step(Operation::Remove {
                path: pointer.to_owned(),
            });
        }
    }

    fn step(&mut self, operation: Operation) {
        operation.apply(&mut self.object);
        self.operations.push(operation);
    }
}
