# The benchmarks run and write what they say; their figures are nobody's verdict here.
foreach(bench pause scale virtio boot footprint io)
  add_test(NAME bench/${bench} COMMAND ${CMAKE_CURRENT_LIST_DIR}/check ${bench})
  set_tests_properties(bench/${bench} PROPERTIES LABELS guest TIMEOUT 300 SKIP_RETURN_CODE 77 RUN_SERIAL ON
    ENVIRONMENT "BENCH_BUILD=${CMAKE_BINARY_DIR};CMAKE=${CMAKE_COMMAND}")
endforeach()
