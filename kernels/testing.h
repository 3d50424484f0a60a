// The test kernels of testing.cu, embedded as one fat binary: pass it to cuModuleLoadData.
#ifndef FLEXLOM_KERNELS_TESTING_H
#define FLEXLOM_KERNELS_TESTING_H

#ifdef __cplusplus
extern "C" {
#endif

extern const unsigned char flexlom_testing_fatbin[];
extern const unsigned char flexlom_testing_fatbin_end[];

#ifdef __cplusplus
}
#endif

#endif
