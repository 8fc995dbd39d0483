//! Many threads at once, on the same clusters.

use super::*;

/// Each thread owns every eighth sector: its neighbours share all of its clusters with it.
#[test]
fn writers_of_different_sectors_of_one_cluster_do_not_lose_each_others_data() {
    const SECTORS: u64 = 4096;
    for bits in [9, 12, 16] {
        let file = Shape::new(bits, SECTORS * 512).file();
        let image = open(&file);
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let image = &image;
                scope.spawn(move || {
                    for sector in (thread..SECTORS).step_by(8) {
                        let fill = u8::try_from(sector % 251 + 1).unwrap();
                        write(image, sector * 512, &[fill; 512]).unwrap();
                        if sector % 512 < 8 {
                            image.flush().unwrap();
                        }
                        assert_eq!(read(image, sector * 512, 512).unwrap(), [fill; 512]);
                    }
                });
            }
        });
        for sector in 0..SECTORS {
            let fill = u8::try_from(sector % 251 + 1).unwrap();
            assert_eq!(read(&image, sector * 512, 512).unwrap(), [fill; 512], "sector {sector}");
        }
        drop(image);
        assert_eq!(sound(&file), 0);
    }
}

/// Clusters go back and forth between threads; nobody ever sees or spoils another's data.
#[test]
fn clusters_that_are_freed_and_taken_again_show_nothing_of_others() {
    const CLUSTERS: u64 = 64;
    let file = Shape::new(12, CLUSTERS * 4096).file();
    let image = open(&file);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let image = &image;
            scope.spawn(move || {
                let fill = u8::try_from(thread + 1).unwrap();
                for round in 0..300_u64 {
                    let cluster = thread + 4 * (round * 7 % (CLUSTERS / 4));
                    let offset = cluster * 4096;
                    write(image, offset + 512, &[fill; 1024]).unwrap();
                    let bytes = read(image, offset, 4096).unwrap();
                    assert!(bytes.iter().all(|byte| *byte == fill || *byte == 0), "{bytes:?}");
                    assert_eq!(bytes[512..1536], [fill; 1024]);
                    if round % 3 == 0 {
                        image.unmap(offset, 4096).unwrap();
                        assert_eq!(read(image, offset, 4096).unwrap(), [0; 4096]);
                    }
                    if round % 16 == thread {
                        image.flush().unwrap();
                    }
                }
            });
        }
    });
    drop(image);
    assert_eq!(sound(&file), 0);
}
