// The bytes that wait to be written.
mod output;
// The stream of a connection with its buffers, and the state of the request body in it.
mod client_wire;
// The body of a request.
mod request_input;
// The head of an answer, and the framing of its body.
mod answer_head;
// The body of an answer.
mod answer_writer;
// The end of a connection.
mod closing;
// Requests and their answers, one after the other.
mod exchanges;
// The life of a connection: at rest, active, draining, a tunnel.
pub(super) mod connection;
#[cfg(test)]
mod held;
