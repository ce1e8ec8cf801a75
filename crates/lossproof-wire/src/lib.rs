//! lossproof-wire
