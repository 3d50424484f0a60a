// The few submissions whose declarations live in cudaGL.h and cudaEGL.h, which need graphics
// headers. Only the shapes matter here: pointers, handles and integers, passed through untouched.
#pragma once

#include <cuda.h>

#include <cstddef>

extern "C" {
CUresult cuGLMapBufferObject(unsigned int* dptr, unsigned int* size, unsigned int buffer);
CUresult cuGLMapBufferObject_v2(CUdeviceptr* dptr, size_t* size, unsigned int buffer);
CUresult cuGLMapBufferObjectAsync(unsigned int* dptr, unsigned int* size, unsigned int buffer,
                                  CUstream stream);
CUresult cuGLMapBufferObjectAsync_v2(CUdeviceptr* dptr, size_t* size, unsigned int buffer,
                                     CUstream stream);
CUresult cuGLUnmapBufferObject(unsigned int buffer);
CUresult cuGLUnmapBufferObjectAsync(unsigned int buffer, CUstream stream);
CUresult cuEGLStreamConsumerAcquireFrame(void** connection, CUgraphicsResource* resource,
                                         CUstream* stream, unsigned int timeout);
CUresult cuEGLStreamConsumerReleaseFrame(void** connection, CUgraphicsResource resource,
                                         CUstream* stream);
// CUeglFrame_v1, passed by value: three plane pointers and nine 32-bit fields.
struct flexlom_egl_frame {
  void* planes[3];
  unsigned int fields[9];
};
CUresult cuEGLStreamProducerPresentFrame(void** connection, flexlom_egl_frame frame,
                                         CUstream* stream);
CUresult cuEGLStreamProducerReturnFrame(void** connection, flexlom_egl_frame* frame,
                                        CUstream* stream);
}
