//! Any bytes as a receipt, as they are and with a right checksum behind them. What decodes is a
//! receipt: it encodes, and decodes to the same, but for the order of its entries.

use std::collections::BTreeSet;

use lossproof_audit::receipt::Receipt;

pub fn check(data: &[u8]) {
    let sealed = [data, &crc32c::crc32c(data).to_be_bytes()].concat();
    for bytes in [data, &sealed] {
        let Ok(receipt) = Receipt::decode(bytes) else { continue };
        let again = Receipt::decode(&receipt.encode()).expect("RECEIPT-1");
        assert_eq!(entries(&again), entries(&receipt), "RECEIPT-1");
        let without = |receipt: Receipt| Receipt { entries: Vec::new(), ..receipt };
        assert_eq!(without(again), without(receipt), "RECEIPT-1");
    }
}

fn entries(receipt: &Receipt) -> BTreeSet<String> {
    receipt.entries.iter().map(|entry| format!("{entry:?}")).collect()
}
