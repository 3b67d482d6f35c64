# Fuzz targets (docs/fuzzing.md): fuzz_NAME.c each, and the seeds they start from, made at build time.
find_library(CMOCKA cmocka REQUIRED)
set(FUZZ_DIR ${CMAKE_BINARY_DIR}/fuzz)

# What the targets answer in the C library's place (fuzz.h, machine.h).
function(add_fuzz_program program source)
  add_executable(${program} ${source})
  target_link_libraries(${program} PRIVATE molt-core ${CMOCKA})
  target_link_options(${program} PRIVATE -Wl,--wrap=clock_gettime)
  file(STRINGS ${source} whole REGEX "#include \"tests/fuzz/machine\\.h\"")
  if(whole)
    target_link_options(${program} PRIVATE -Wl,--wrap=fstat)
  endif()
  file(STRINGS ${source} waits REGEX "int __wrap_poll")
  if(waits)
    target_link_options(${program} PRIVATE -Wl,--wrap=poll,--wrap=nanosleep)
  endif()
  file(STRINGS ${source} cuts REGEX "int __wrap_fallocate")
  if(cuts)
    target_link_options(${program} PRIVATE -Wl,--wrap=fallocate,--wrap=virtq_pop)
  endif()
endfunction()

file(GLOB FUZZ_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/fuzz_*.c)
set(FUZZ_TARGETS)
foreach(source ${FUZZ_SOURCES})
  get_filename_component(file ${source} NAME_WE)
  string(REPLACE "fuzz_" "" name ${file})
  add_fuzz_program(fuzz-${name} ${source})
  target_link_options(fuzz-${name} PRIVATE -fsanitize=fuzzer)
  set_target_properties(fuzz-${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${FUZZ_DIR}/bin OUTPUT_NAME ${name})
  list(APPEND FUZZ_TARGETS fuzz-${name})
  add_test(NAME fuzz/${name} COMMAND ${CMAKE_CURRENT_LIST_DIR}/run --build ${CMAKE_BINARY_DIR} --short ${name})
  set_tests_properties(fuzz/${name} PROPERTIES LABELS fuzz TIMEOUT 1200)
endforeach()

add_fuzz_program(fuzz-seeds ${CMAKE_CURRENT_LIST_DIR}/seeds.c)
# One of the bare guests, less its symbols, is a real kernel image of a few KiB.
add_custom_command(OUTPUT ${FUZZ_DIR}/seeds.made
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${FUZZ_DIR}/seeds
  COMMAND ${CMAKE_COMMAND} -E make_directory ${FUZZ_DIR}/seeds
  COMMAND ${CMAKE_OBJCOPY} -S $<TARGET_FILE:guest-irq> ${FUZZ_DIR}/kernel.elf
  COMMAND fuzz-seeds ${FUZZ_DIR}/seeds ${FUZZ_DIR}/kernel.elf
  COMMAND ${CMAKE_COMMAND} -E touch ${FUZZ_DIR}/seeds.made
  DEPENDS fuzz-seeds guest-irq VERBATIM)
add_custom_target(fuzz DEPENDS ${FUZZ_TARGETS} ${FUZZ_DIR}/seeds.made)
