# Linux guests with passthrough devices in the nested bed: tests/nested/run says how, cases/ what.
# The programs are those that are installed, static: $MOLT and $MOLT_B, or the two release builds.
find_program(MUSL_GCC musl-gcc REQUIRED)
set(NESTED_TOOLS)
foreach(tool udp-send packets-in memlock as-user vsock-echo tap-queues)
  set(source ${CMAKE_CURRENT_LIST_DIR}/tools/${tool}.c)
  add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/nested/${tool}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/nested
    COMMAND ${MUSL_GCC} -static -O2 -Wall -Wextra -Werror -D_GNU_SOURCE
      -o ${CMAKE_BINARY_DIR}/nested/${tool} ${source}
      -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu
    DEPENDS ${source} ${CMAKE_CURRENT_LIST_DIR}/tools/packet.h VERBATIM)
  list(APPEND NESTED_TOOLS ${CMAKE_BINARY_DIR}/nested/${tool})
endforeach()
# The runner of the bare-metal guests again, static: L1 has no libraries.
file(GLOB_RECURSE NESTED_RUNNER CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../guest/*.c)
file(GLOB_RECURSE NESTED_RUNNER_H CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../guest/*.h)
add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/nested/guest-runner
  COMMAND ${MUSL_GCC} -static -O2 -D_GNU_SOURCE -I${CMAKE_SOURCE_DIR}
    -o ${CMAKE_BINARY_DIR}/nested/guest-runner ${NESTED_RUNNER}
    -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu
  DEPENDS ${NESTED_RUNNER} ${NESTED_RUNNER_H} ${CMAKE_BINARY_DIR}/nested/udp-send VERBATIM)
list(APPEND NESTED_TOOLS ${CMAKE_BINARY_DIR}/nested/guest-runner)
# Warming's own code, with a KVM but without the rest of molt: what is not called is left out.
set(NESTED_WARM ${CMAKE_CURRENT_LIST_DIR}/tools/warm.c)
foreach(source warm warm_map warm_room sched vm arch/x86_64/warm arch/x86_64/cpu arch/x86_64/tsc base/error base/fd base/log
    base/pool)
  list(APPEND NESTED_WARM ${CMAKE_SOURCE_DIR}/vmm/${source}.c)
endforeach()
file(GLOB NESTED_WARM_H CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/vmm/*.h ${CMAKE_SOURCE_DIR}/vmm/*/*.h
  ${CMAKE_SOURCE_DIR}/vmm/arch/x86_64/*.h ${CMAKE_SOURCE_DIR}/cpr/*/*.h)
add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/nested/warm
  COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/nested
  COMMAND ${MUSL_GCC} -static -O2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers
    -D_GNU_SOURCE -I${CMAKE_SOURCE_DIR} -ffunction-sections -fdata-sections -Wl,--gc-sections,--wrap=vm_ioctl
    -o ${CMAKE_BINARY_DIR}/nested/warm ${NESTED_WARM}
    -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu
  DEPENDS ${NESTED_WARM} ${NESTED_WARM_H} VERBATIM)
list(APPEND NESTED_TOOLS ${CMAKE_BINARY_DIR}/nested/warm)
add_custom_target(nested-tools ALL DEPENDS ${NESTED_TOOLS})

file(GLOB NESTED_CASES CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/cases/*.sh)
set(NESTED_NAMES)
foreach(case ${NESTED_CASES})
  get_filename_component(name ${case} NAME_WLE)
  add_test(NAME nested/${name} COMMAND ${CMAKE_CURRENT_LIST_DIR}/run ${name})
  list(APPEND NESTED_NAMES nested/${name})
endforeach()
# scripts/try, at a terminal.
add_test(NAME nested/try COMMAND ${CMAKE_CURRENT_LIST_DIR}/try)
add_test(NAME nested/try-nic COMMAND ${CMAKE_CURRENT_LIST_DIR}/try nic)
# Disk and network beside QEMU's: that it runs, one round of it.
add_test(NAME nested/bench-io COMMAND ${CMAKE_CURRENT_LIST_DIR}/../bench/check io-bed)
list(APPEND NESTED_NAMES nested/try nested/try-nic nested/bench-io)
# Adds up what the others counted: how often emulated SVM itself lost a guest.
add_test(NAME nested/artefacts COMMAND ${CMAKE_CURRENT_LIST_DIR}/run --artefacts)
set_tests_properties(nested/artefacts PROPERTIES DEPENDS "${NESTED_NAMES}")
# An emulated host wants a core, and its time is what the guests live by: no more of them at once than there are cores.
set_tests_properties(${NESTED_NAMES} nested/artefacts PROPERTIES LABELS nested TIMEOUT 2700
  SKIP_RETURN_CODE 77 ENVIRONMENT "NESTED_BUILD=${CMAKE_BINARY_DIR}")
set_tests_properties(nested/soak nested/root nested/faults nested/faults-iommufd PROPERTIES TIMEOUT 10800) # with $MOLT_LONG, three tries of it
# Part of the fault matrix as well (scripts/test runs it once).
set_tests_properties(nested/faults nested/faults-iommufd nested/faults-eject nested/net-faults PROPERTIES LABELS "nested;fault")
# The longest first, beside which the others run.
set_tests_properties(nested/bare-guests PROPERTIES COST 300)
set_tests_properties(nested/faults nested/faults-iommufd nested/root nested/disk-faults PROPERTIES COST 200)
