//! Packing: sizes, threads, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use bantam_kernels::{BlockType, Cpu, CpuConfig, PackError, Packer};

fn cpu() -> Cpu {
    Cpu::new(CpuConfig { n_threads: 2, isa: None }).unwrap()
}

#[test]
fn bits_per_weight_are_those_of_the_file() {
    for ty in BlockType::ALL {
        let (n_rows, k) = (64, 1024);
        let row = vec![0u8; ty.row_bytes(k).unwrap()];
        let w = Packer::new(&cpu(), 0).pack(ty, n_rows, k, |_| &row).unwrap();
        assert_eq!(w.n_bytes(), n_rows * row.len(), "{ty}");
        assert_eq!(format!("{w:?}"), format!("PackedMatrix({ty} 64 x 1024)"));
    }
}

#[test]
fn large_matrices_pack() {
    // Beyond the size from which the memory is aligned to huge pages.
    let (n_rows, k) = (2049, 1024);
    let data: Vec<u8> = (0..n_rows * 4 * k).map(|i| (i % 251) as u8 & 0x3f).collect();
    let w = Packer::new(&cpu(), 0).pack(BlockType::F32, n_rows, k, |i| &data[i * 4 * k..(i + 1) * 4 * k]).unwrap();
    let mut row = vec![0.0; k];
    for i in [0, 15, 16, 1000, 2048] {
        w.dequantize_row(i, &mut row);
        let want = data[i * 4 * k..].chunks(4).map(|x| f32::from_le_bytes(x.try_into().unwrap()));
        assert!(row.iter().copied().zip(want).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

#[test]
fn what_cannot_be_packed_is_refused_by_name() {
    let row = [0u8; 36];
    let pack = |ty, n_rows, k| Packer::new(&cpu(), 0).pack(ty, n_rows, k, |_| &row[..]).unwrap_err();
    let error = pack(BlockType::Q4_0, 4, 48);
    assert_eq!(error, PackError::RowNotBlocks { ty: BlockType::Q4_0, k: 48, block_len: 32 });
    assert_eq!(error.to_string(), "Q4_0 rows of 48 weights: the row length must be a multiple of 32");
    assert_eq!(pack(BlockType::Q6_K, 4, 128), PackError::RowNotBlocks { ty: BlockType::Q6_K, k: 128, block_len: 256 });
    assert_eq!(pack(BlockType::F16, 0, 8), PackError::Empty { n_rows: 0, k: 8 });
    assert_eq!(pack(BlockType::F16, 8, 0), PackError::Empty { n_rows: 8, k: 0 });
    for (n_rows, k) in [(1, usize::MAX), (usize::MAX, 1), (usize::MAX / 64, 64), (1, usize::MAX / 4)] {
        assert_eq!(pack(BlockType::F32, n_rows, k), PackError::TooLarge { ty: BlockType::F32, n_rows, k });
    }
    // More than any machine has, but not more than an address can say.
    let error = pack(BlockType::F32, 1 << 20, 1 << 36);
    assert_eq!(error, PackError::OutOfMemory { bytes: 1 << 58 });
}

#[test]
fn a_row_of_the_wrong_length_is_named() {
    let rows: Vec<Vec<u8>> = (0..40).map(|i| vec![0; if i == 21 || i == 37 { 35 } else { 36 }]).collect();
    let error = Packer::new(&cpu(), 0).pack(BlockType::Q4_0, 40, 64, |i| &rows[i]).unwrap_err();
    assert_eq!(error, PackError::RowLength { row: 21, found: 35, expected: 36 });
}
