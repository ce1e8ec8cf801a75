//! A thread that goes behind the others: it alone does.
#![cfg(target_os = "linux")]

use std::fs;
use std::thread;

use lossproof_env::lower_thread_priority;

/// The nice value of this thread: the 19th field, the 17th after the name in brackets.
fn nice() -> i32 {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(16).unwrap().parse().unwrap()
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
