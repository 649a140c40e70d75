//! Portcullis: Kubernetes says *Running*; Portcullis makes it mean *Ready*.

#[cfg(feature = "webhook")]
pub mod policy;

#[cfg(feature = "gate")]
pub mod gate;
