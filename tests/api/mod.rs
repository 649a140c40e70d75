//! Portcullis as a real kube-apiserver sees it.

mod control_plane;
