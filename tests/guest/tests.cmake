# One test per case of cases.c: the table there is the only list. The program is this build's, or
# $MOLT and $MOLT_B; builds with sanitizers run fewer updates.
set(GUEST_CASES ${CMAKE_CURRENT_LIST_DIR}/cases/cases.c)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${GUEST_CASES})
file(STRINGS ${GUEST_CASES} lines REGEX "^\t{\"[a-z0-9-]+\",")
if(NOT lines)
  message(FATAL_ERROR "no cases found in ${GUEST_CASES}")
endif()
set_target_properties(molt-faulty PROPERTIES EXCLUDE_FROM_ALL OFF)
set(GUEST_ARGS)
if(MOLT_SANITIZE)
  set(GUEST_ARGS --updates 24 --slow 3)
endif()
foreach(line ${lines})
  string(REGEX REPLACE "^\t{\"([a-z0-9-]+)\".*" "\\1" name "${line}")
  set(label guest)
  if(name MATCHES "^(inject.*|fault-(state|limits|memory|kill|stop))$")
    # The fault matrix: minutes each, of the program that is shipped; never tried under sanitizers.
    if(MOLT_SANITIZE)
      continue()
    endif()
    set(label fault)
  elseif(name MATCHES "^fault(-2)?$")
    set(label "guest;fault") # short enough for sanitizers
  elseif(name MATCHES "^calls-" AND MOLT_SANITIZE)
    continue() # of the program that is shipped as well
  endif()
  set(args ${GUEST_ARGS})
  if(name MATCHES "-[0-9][0-9][0-9]$|^cpus-")
    set(args --slow 4 ${GUEST_ARGS}) # hundreds of threads on a few processors
  endif()
  add_test(NAME guest/${name} COMMAND ${CMAKE_BINARY_DIR}/tests/guest-runner
    --molt $<TARGET_FILE:molt> --guests ${CMAKE_BINARY_DIR}/guests ${args} ${name})
  set_tests_properties(guest/${name} PROPERTIES
    ENVIRONMENT "MOLT_FAULTY=$<TARGET_FILE:molt-faulty>;MOLT_SKEW=${CMAKE_BINARY_DIR}/tests/molt-skew-;MOLT_CALLS=${CMAKE_CURRENT_LIST_DIR}/calls;MOLT_FLOOR=${CMAKE_BINARY_DIR}/tests/floor"
    LABELS "${label}" TIMEOUT 1000 SKIP_RETURN_CODE 77)
  # Two guests with one vCPU each run beside each other on two cores; the exact ones and larger ones do not.
  if(name MATCHES "^(gap|calls|clock|cpus)-|-[248]$|-[0-9][0-9][0-9]$|^smp$")
    set_tests_properties(guest/${name} PROPERTIES RUN_SERIAL ON)
  endif()
endforeach()
# Long versions, beside others.
set_tests_properties(guest/soak PROPERTIES TIMEOUT 3600)
if(NOT MOLT_SANITIZE)
  set_tests_properties(guest/inject guest/inject-parent guest/inject-2 guest/fault-kill PROPERTIES TIMEOUT 3600)
endif()
