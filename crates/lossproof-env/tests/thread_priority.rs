//! A thread that goes behind the others: it alone does.
#![cfg(target_os = "linux")]

use std::fs;
use std::thread;

use lossproof_env::lower_thread_priority;

/// The nice value of this thread: the 19th field, the 17th after the name in brackets.
fn nice() -> i32 {
    let stat = fs::read_to_string("/proc/thread-self/stat").expect("what the kernel tells of it");
    let (_, fields) = stat.rsplit_once(") ").expect("fields after the name");
    let nice = fields.split(' ').nth(16).expect("a nice value");
    nice.parse().expect("a number")
}

#[test]
fn only_the_thread_that_asks_goes_behind() {
    let before = nice();
    let behind = thread::spawn(|| {
        lower_thread_priority();
        nice()
    });
    assert!(behind.join().unwrap() > before);
    assert_eq!(nice(), before);
}
