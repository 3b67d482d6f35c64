# What molt prints as JSON, of a real run, against docs/records.schema.json.
add_test(NAME guest/records COMMAND ${CMAKE_CURRENT_LIST_DIR}/run $<TARGET_FILE:molt> $<TARGET_FILE:molt-faulty>
  ${CMAKE_BINARY_DIR}/guests)
set_tests_properties(guest/records PROPERTIES LABELS guest TIMEOUT 1000 SKIP_RETURN_CODE 77)
