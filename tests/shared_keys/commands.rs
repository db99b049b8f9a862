//! The commands that judge a token read the signing keys from the database.

use super::{WRAPPING_KEY, World};
use crate::support::command::{Finished, run, run_with};
use crate::support::gateway::program;

#[tokio::test]
async fn tokens_are_judged_by_the_keys_of_the_database() {
    let Some(mut world) = World::start().await else { return };
    let one = world.replica("");
    let token = one.token().await;
    // Another machine.
    let folder = world.folder("", WRAPPING_KEY);
    let inspected = |token: &str| run_with(program(&folder).args(["token", "inspect"]), token);
    let explained = |token: &str| -> Finished {
        std::fs::write(folder.join("token"), token).unwrap();
        run(program(&folder).args(["explain", "GET", "/data", "--token-file", "token"]))
    };
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{signed}.{other}{}", &signature[1..]);
    for (token, code) in [(&token, 0), (&forged, 1)] {
        let (inspected, explained) = (inspected(token), explained(token));
        assert_eq!((inspected.code, explained.code), (Some(code), Some(code)), "{inspected:?} {explained:?}");
        assert!(!explained.stderr.contains("not checked"), "{explained:?}");
        assert_eq!(inspected.stdout.contains("bad_signature"), code == 1, "{inspected:?}");
    }
    world.postgres.kill();
    let unread = "cannot read the signing keys from the database: the database (`shared.postgres`, localhost:";
    let (inspected, explained) = (inspected(&token), explained(&token));
    assert_eq!(inspected.code, Some(1), "{inspected:?}");
    assert!(inspected.stderr.contains(&format!("own tokens cannot be judged: {unread}")), "{inspected:?}");
    assert!(inspected.stdout.contains("_unavailable"), "{inspected:?}");
    assert!(explained.stderr.contains("signature not checked") && explained.stderr.contains(unread), "{explained:?}");
}
