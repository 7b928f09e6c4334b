# LibTorch from the pip wheel: djinn_torch (CPU part, for everything) and djinn_torch_cuda (only for the CUDA plugin).
#
# Why not find_package(Torch): in a CUDA wheel it demands a CUDA toolkit and links libtorch.so, which drags three
# gigabytes of CUDA libraries into every client. libtorch_cpu and libc10 are enough, and their own RPATH finds the two
# libraries of nvidia-cuda-runtime and nvidia-cuda-cupti beside them. Nothing here imports torch.

find_program(DJINN_PYTHON NAMES python3 python PATHS ${PROJECT_SOURCE_DIR}/.venv/bin NO_DEFAULT_PATH
  DOC "The Python whose site-packages hold torch")
if(NOT DJINN_PYTHON)
  message(FATAL_ERROR "no Python with torch: run ./dev setup, or name one with -DDJINN_PYTHON=/path/to/python3")
endif()
execute_process(
  COMMAND ${DJINN_PYTHON} -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
  OUTPUT_VARIABLE DJINN_TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
if(failed)
  message(FATAL_ERROR "${DJINN_PYTHON} has no package torch: run ./dev setup")
endif()
message(STATUS "LibTorch: ${DJINN_TORCH_DIR}")

# The wheel carries headers of a newer fmt than the one Debian's spdlog was built with; LibTorch's own headers are content
# with either, so Debian's is put in front.
set(fmt_first ${CMAKE_CURRENT_BINARY_DIR}/include_first)
file(MAKE_DIRECTORY ${fmt_first})
file(CREATE_LINK /usr/include/fmt ${fmt_first}/fmt SYMBOLIC)

# What libtorch_cpu needs in turn it finds itself at run time, so the linker need not see it.
add_library(djinn_torch INTERFACE)
target_include_directories(djinn_torch SYSTEM INTERFACE
  ${fmt_first} ${DJINN_TORCH_DIR}/include ${DJINN_TORCH_DIR}/include/torch/csrc/api/include)
target_link_libraries(djinn_torch INTERFACE ${DJINN_TORCH_DIR}/lib/libtorch_cpu.so ${DJINN_TORCH_DIR}/lib/libc10.so)
target_link_options(djinn_torch INTERFACE -Wl,-rpath,${DJINN_TORCH_DIR}/lib -Wl,--allow-shlib-undefined)
target_compile_features(djinn_torch INTERFACE cxx_std_20)
# ATen/native/DispatchStub.h declares different functions by what the wheel was built with.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_definitions(djinn_torch INTERFACE HAVE_AVX2_CPU_DEFINITION HAVE_AVX512_CPU_DEFINITION)
endif()

# at::RecordFunction and others have other members without NDEBUG, and the wheel was built with it.
string(TOUPPER "CMAKE_CXX_FLAGS_${CMAKE_BUILD_TYPE}" flags_of_build)
if(NOT "${${flags_of_build}}" MATCHES "NDEBUG")
  target_compile_definitions(djinn_torch INTERFACE NDEBUG)
endif()

# The headers that cost most, compiled once: a file that includes them takes 2 s instead of 8. Not <torch/torch.h>: it
# spends 8 of its 16 s on templates that gcc instantiates again in every file, with or without a precompiled header.
file(CONFIGURE OUTPUT torch_header.cc CONTENT "// Carrier of the precompiled LibTorch headers.\n")
add_library(djinn_torch_header OBJECT ${CMAKE_CURRENT_BINARY_DIR}/torch_header.cc)
target_link_libraries(djinn_torch_header PRIVATE djinn_torch djinn_options)
target_precompile_headers(djinn_torch_header PRIVATE
  <ATen/ATen.h> <torch/library.h> <torch/types.h> <torch/csrc/autograd/custom_function.h>)

# The plugin for CUDA links what the client must not. It is left out, with the reason, where it cannot be built.
set(DJINN_BUILD_CUDA OFF)
set(DJINN_NO_CUDA "")
if(DJINN_CUDA STREQUAL "OFF")
  set(DJINN_NO_CUDA "DJINN_CUDA is OFF")
elseif(NOT EXISTS ${DJINN_TORCH_DIR}/lib/libtorch_cuda.so)
  set(DJINN_NO_CUDA "LibTorch here is a build for the CPU alone")
else()
  find_package(CUDAToolkit QUIET)
  file(STRINGS ${DJINN_TORCH_DIR}/version.py torch_cuda REGEX "^cuda")
  string(REGEX MATCH "[0-9]+" torch_cuda "${torch_cuda}")
  if(NOT CUDAToolkit_FOUND)
    set(DJINN_NO_CUDA "no CUDA toolkit was found (nvcc in PATH, or -DCUDAToolkit_ROOT=)")
  elseif(NOT CUDAToolkit_VERSION_MAJOR STREQUAL torch_cuda)
    set(DJINN_NO_CUDA "the CUDA toolkit is ${CUDAToolkit_VERSION}, LibTorch was built with ${torch_cuda}")
  endif()
endif()
if(NOT DJINN_NO_CUDA)
  set(DJINN_BUILD_CUDA ON)
  add_library(djinn_torch_cuda INTERFACE)
  target_include_directories(djinn_torch_cuda SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(djinn_torch_cuda INTERFACE djinn_torch CUDA::cudart
    -Wl,--push-state,--no-as-needed
    ${DJINN_TORCH_DIR}/lib/libtorch_cuda.so ${DJINN_TORCH_DIR}/lib/libc10_cuda.so
    -Wl,--pop-state)
elseif(DJINN_CUDA STREQUAL "ON")
  message(FATAL_ERROR "DJINN_CUDA is ON, but ${DJINN_NO_CUDA}")
endif()
if(DJINN_BUILD_CUDA)
  message(STATUS "CUDA plugin: yes, toolkit ${CUDAToolkit_VERSION}")
else()
  message(STATUS "CUDA plugin: no, ${DJINN_NO_CUDA}")
endif()
