//! Packed rows give back exactly what PyPI `gguf` dequantises them to (fixtures/make.py).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use bantam_kernels::{BlockType, Cpu, CpuConfig, Packer};

const BLOCKS: &[u8] = include_bytes!("fixtures/blocks.bin");

struct Record {
    ty: BlockType,
    k: usize,
    rows: Vec<(&'static [u8], Vec<f32>)>,
}

fn records() -> Vec<Record> {
    let mut rest = BLOCKS;
    let mut take = |n: usize| {
        let (head, tail) = rest.split_at(n);
        rest = tail;
        head
    };
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let mut records = Vec::new();
    for _ in BlockType::ALL {
        let len = usize::from(take(1)[0]);
        let name = std::str::from_utf8(take(len)).unwrap();
        let ty = BlockType::ALL.into_iter().find(|ty| ty.to_string() == name).unwrap();
        let (k, n_rows) = (word(take(4)) as usize, word(take(4)) as usize);
        let row = |_| {
            let raw = take(ty.row_bytes(k).unwrap());
            let want = take(4 * k).chunks(4).map(|x| f32::from_bits(word(x))).collect();
            (raw, want)
        };
        records.push(Record { ty, k, rows: (0..n_rows).map(row).collect() });
    }
    assert!(rest.is_empty());
    records
}

#[test]
fn packed_rows_dequantise_as_gguf_does() {
    let cpu = Cpu::new(CpuConfig { n_threads: 2, isa: None }).unwrap();
    let records = records();
    assert!(BlockType::ALL.iter().all(|ty| records.iter().any(|r| r.ty == *ty)));
    for Record { ty, k, rows } in &records {
        // Also beyond one unit, where every lane has had every row.
        for n_rows in [rows.len(), 16 * rows.len() + 3] {
            let w = Packer::new(&cpu, 0).pack(*ty, n_rows, *k, |i| rows[i % rows.len()].0).unwrap();
            assert_eq!((w.n_rows(), w.k(), w.block_type()), (n_rows, *k, *ty));
            let mut got = vec![0.0; *k];
            for i in 0..n_rows {
                w.dequantize_row(i, &mut got);
                let want = &rows[i % rows.len()].1;
                for (j, (got, want)) in got.iter().zip(want).enumerate() {
                    assert_eq!(got.to_bits(), want.to_bits(), "{ty} row {i} k {j}: {got} for {want}");
                }
            }
        }
    }
}
