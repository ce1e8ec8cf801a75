//! lossproof-relay
