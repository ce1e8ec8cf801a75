//! lossproof-log
