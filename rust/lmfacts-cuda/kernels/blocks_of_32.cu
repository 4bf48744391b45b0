// The same as `blocks_of_16.cu`, for blocks of 32.

KERNEL(256, 4) blocks_of_32(ARGUMENTS(StatisticUpdate) s) { count_blocks(&s, 32); }
