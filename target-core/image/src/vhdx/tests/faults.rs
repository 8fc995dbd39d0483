//! Writes that fail.

use super::*;
use crate::fault::Fault;

#[test]
fn a_failed_write_leaves_an_image_that_goes_on() {
    for variant in [VARIANTS[0], VARIANTS[3]] {
        for skip in 0..4 {
            for operation in [Operation::Write, Operation::Resize, Operation::Flush] {
                let disk = Disk::new(variant, 4 * MIB);
                let model = disk.model(4 * MIB);
                let image = disk.open();
                write_at(&image, 0, &[1; 512]);
                write_at(&model, 0, &[1; 512]);
                disk.file.inject(Fault::errno(operation, 28).after(skip).times(1));
                for place in [MIB + 4096, 2 * MIB, 3 * MIB] {
                    let data = vec![place.to_le_bytes()[2]; 70_000];
                    if image.write(&[IoSlice::new(&data)], place, Durability::Cached).is_err() {
                        // What a failed write leaves in its own range is anybody's guess.
                        image.write(&[IoSlice::new(&data)], place, Durability::Cached).unwrap();
                    }
                    write_at(&model, place, &data);
                }
                disk.file.heal();
                compare(&image, &model);
                drop(image);
                compare(&disk.open(), &model);
            }
        }
    }
}
