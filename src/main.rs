//! argv → exit code.

use std::process::ExitCode;

/// Gives freed memory back and costs less per request than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis::main()
}
