//! The admission server over real sockets.

mod connections;

mod raw;

mod shutdown;
