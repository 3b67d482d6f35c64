# The protocol of an update, checked by SPIN: tests/model/check says how. Its own processes need no guest.
add_test(NAME model/handover COMMAND ${CMAKE_CURRENT_LIST_DIR}/check)
set_tests_properties(model/handover PROPERTIES LABELS model TIMEOUT 900 SKIP_RETURN_CODE 77
  ENVIRONMENT "CC=${CMAKE_C_COMPILER}")
