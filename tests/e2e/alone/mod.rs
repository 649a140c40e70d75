//! Stories that are played one at a time, with no other beside them: they take away what the others stand on (a node, the
//! API server, a kubelet, the webhook), or measure what a busy machine would blur or make too late.

mod rollback;

mod node_drain;

mod webhook_down;

mod crash;

mod killed;
