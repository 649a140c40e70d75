//! The gate's data path between real sockets: a client and an app that say exactly what the test says.

mod harness;

// Requests one by one.
mod http1;

mod http2;

// Bytes as they come.
mod tcp;

// Many of them.
mod bodies;

// Not all at once, and the end.
mod ramp;

// The end for HTTP/2, whose connections end by agreement.
mod goaway;

// The end for who comes when it is all but over.
mod late;

// What goes wrong.
mod faults;

// Clients for whom the gate waits in vain.
mod waits;

// What is meant to go wrong.
mod smuggling;
