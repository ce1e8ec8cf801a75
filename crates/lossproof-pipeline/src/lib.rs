//! lossproof-pipeline
