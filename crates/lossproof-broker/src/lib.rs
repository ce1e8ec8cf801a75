//! lossproof-broker
