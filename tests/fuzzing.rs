//! No input makes a parser panic: the corpus of `fuzz/`, and mutations of it. A fuzzer looks further;
//! whatever it finds is a file of the corpus from then on.

use std::fs;
use std::path::Path;

use portcullis::fuzzing::ENTRANCES;

/// Of each file.
const MUTATIONS: usize = 300;

#[test]
fn no_corpus_file_and_no_mutation_makes_a_parser_panic() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, entrance) in ENTRANCES {
        assert!(root.join("fuzz_targets").join(name).with_extension("rs").exists(), "{name} has no target");
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut files = 0;
        for entry in fs::read_dir(root.join("corpus").join(name)).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            entrance(&bytes);
            (0..MUTATIONS).for_each(|_| entrance(&random.mutated(&bytes)));
            files += 1;
        }
        assert!(files > 3, "{name} has no corpus");
    }
}

/// The same numbers in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (limit.max(1) as u64)).unwrap()
    }

    fn mutated(&mut self, bytes: &[u8]) -> Vec<u8> {
        const TELLING: &[u8] = b"\0\r\n \"\\{}[]:,./;%&=+-_~\x7f\xff\xc30aA";
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let byte = TELLING[self.below(TELLING.len())];
            match self.below(5) {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 => bytes.truncate(at),
                3 => {
                    let piece = bytes[at..].iter().take(32).copied().collect::<Vec<_>>();
                    bytes.splice(at..at, piece);
                }
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    }
}
