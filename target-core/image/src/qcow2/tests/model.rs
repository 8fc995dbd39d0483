//! Any sequence of calls leaves what it leaves in memory.

use proptest::prelude::*;

use super::*;
use crate::mem::MemImage;

#[derive(Debug, Clone)]
enum Step {
    Write { durable: bool, pieces: usize },
    Unmap,
    WriteZeroes { may_unmap: bool },
    Read { nowait: bool },
    Grow,
    Cut,
    Flush,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<(Step, u64, u64)>> {
    let step = prop_oneof![
        10 => (any::<bool>(), 1_usize..5)
            .prop_map(|(durable, pieces)| Step::Write { durable, pieces }),
        4 => Just(Step::Unmap),
        3 => any::<bool>().prop_map(|may_unmap| Step::WriteZeroes { may_unmap }),
        4 => any::<bool>().prop_map(|nowait| Step::Read { nowait }),
        1 => Just(Step::Grow),
        1 => Just(Step::Cut),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ];
    let place = prop_oneof![0_u64..300_000, (0_u64..74).prop_map(|block| block * 4096)];
    let length = prop_oneof![
        4 => 0_u64..9000,
        2 => (0_u64..16).prop_map(|blocks| blocks * 4096),
        1 => 0_u64..200_000
    ];
    prop::collection::vec((step, place, length), 1..40)
}

fn shapes() -> impl Strategy<Value = Shape> {
    let bits = prop_oneof![Just(9), Just(10), Just(12), Just(16)];
    let version = prop_oneof![1 => Just(2), 4 => Just(3)];
    (bits, 0_u32..=6, version).prop_map(|(cluster_bits, refcount_order, version)| {
        let refcount_order = if version == 2 { 4 } else { refcount_order };
        Shape { cluster_bits, refcount_order, version, size: 300_000 }
    })
}

/// A parent of another size, or none.
fn parents() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![2 => Just(None), 1 => Just(Some(150_000)), 1 => Just(Some(450_000))]
}

fn parent(size: u64) -> Arc<dyn Image> {
    let image = MemImage::new(size).unwrap();
    let data: Vec<u8> = (0..size).map(|n| 0x80 | (n / 1000).to_le_bytes()[0]).collect();
    write(&image, 0, &data).unwrap();
    image.unmap(40_960, 20_480).unwrap();
    Arc::new(image)
}

struct Run {
    file: Arc<MemFile>,
    image: Option<Qcow2Image>,
    parent: Option<Arc<dyn Image>>,
    model: MemImage,
}

impl Run {
    fn new(shape: Shape, parent_size: Option<u64>) -> Self {
        let file = shape.file();
        let parent = parent_size.map(parent);
        let model = MemImage::new(shape.size).unwrap();
        if let Some(parent) = &parent {
            let there = parent.size_bytes().min(shape.size);
            let length = usize::try_from(there).unwrap();
            write(&model, 0, &read(&**parent, 0, length).unwrap()).unwrap();
        }
        let image = Some(try_open(&file, parent.as_ref()).unwrap());
        Self { file, image, parent, model }
    }

    fn step(&mut self, at: usize, step: &(Step, u64, u64)) {
        let (step, offset, length) = step;
        let (offset, length) = (*offset, *length);
        let image = self.image.as_ref().unwrap();
        let both = |f: &dyn Fn(&dyn Image) -> Result<(), ImageError>| {
            let answer = |result: Result<(), ImageError>| result.map_err(|error| error.kind());
            let (found, wanted) = (answer(f(image)), answer(f(&self.model)));
            assert_eq!(found, wanted, "{step:?} {offset} {length}");
        };
        match step {
            Step::Write { durable, pieces } => {
                let fill = at.to_le_bytes()[0];
                let data: Vec<u8> =
                    (0..length).map(|n| fill.wrapping_mul(37) ^ n.to_le_bytes()[0]).collect();
                let size = (data.len() / pieces).max(1);
                let slices: Vec<_> = data.chunks(size).map(IoSlice::new).collect();
                let durability = if *durable { Durability::Durable } else { Durability::Cached };
                both(&|image| image.write(&slices, offset, durability));
            }
            Step::Unmap => both(&|image| image.unmap(offset, length)),
            Step::WriteZeroes { may_unmap } => {
                both(&|image| image.write_zeroes(offset, length, *may_unmap));
            }
            Step::Read { nowait } => {
                let mut bytes = vec![0xee; usize::try_from(length).unwrap()];
                let third = bytes.len() / 3;
                let (head, tail) = bytes.split_at_mut(third);
                let mut slices = [IoSliceMut::new(head), IoSliceMut::new(tail)];
                let wait = if *nowait { Wait::Nowait } else { Wait::Block };
                let wanted = read(&self.model, offset, third + tail_len(length, third));
                match image.read(&mut slices, offset, wait) {
                    Err(error) if error.kind() == ImageErrorKind::WouldBlock => assert!(*nowait),
                    result => assert_eq!(
                        result.map(|()| bytes).map_err(|error| error.kind()),
                        wanted.map_err(|error| error.kind()),
                        "{step:?} {offset} {length}"
                    ),
                }
            }
            Step::Grow => {
                let size = self.model.size_bytes() + length / 3;
                if size < 600_000 {
                    both(&|image| image.grow(size));
                    assert!(image.size_bytes() >= size);
                }
            }
            Step::Cut => {
                let size = self.model.size_bytes().saturating_sub(length / 3).max(1);
                both(&|image| image.cut(size));
                assert_eq!(image.size_bytes(), size);
            }
            Step::Flush => both(&|image| image.flush()),
            Step::Reopen => {
                drop(self.image.take());
                assert_eq!(sound(&self.file), 0, "clusters are lost");
                self.image = Some(try_open(&self.file, self.parent.as_ref()).unwrap());
            }
        }
    }

    fn compare(mut self) {
        let contents = self.model.contents();
        for _ in 0..2 {
            let image = self.image.take().unwrap();
            assert_eq!(image.size_bytes(), self.model.size_bytes());
            assert!(read(&image, 0, contents.len()).unwrap() == contents, "the disk differs");
            self.extents(&image, &contents);
            drop(image);
            assert_eq!(sound(&self.file), 0, "clusters are lost");
            self.image = Some(try_open(&self.file, self.parent.as_ref()).unwrap());
        }
    }

    /// The extents cover the disk, and what is a hole reads zeroes.
    fn extents(&self, image: &dyn Image, contents: &[u8]) {
        let size = self.model.size_bytes();
        let mut at = 0;
        while at < size {
            let extent = image.block_status(at, size - at).unwrap();
            assert_eq!(extent.offset, at);
            let end = at + extent.length;
            assert!(extent.length >= 1 && end <= size);
            if extent.state == BlockState::Deallocated {
                let range = usize::try_from(at).unwrap()..usize::try_from(end).unwrap();
                assert!(contents[range].iter().all(|byte| *byte == 0), "{extent:?}");
            }
            at = end;
        }
    }
}

fn tail_len(length: u64, head: usize) -> usize {
    usize::try_from(length).unwrap() - head
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_leaves_what_it_leaves_in_memory(
        shape in shapes(),
        parent in parents(),
        steps in steps(),
    ) {
        let mut run = Run::new(shape, parent);
        for (at, step) in steps.iter().enumerate() {
            run.step(at, step);
        }
        run.compare();
    }
}
