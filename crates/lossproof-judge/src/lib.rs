//! lossproof-judge
