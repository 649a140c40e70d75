//! The admission server over real sockets.

mod connections;

mod program;

mod raw;

mod shutdown;
