# The Debian package (docs/packaging.md): what is installed for it only, and what CPack has to know.
# The component `debian` is in the package alone; `licence` is not, since Debian wants it as `copyright`.
set(MOLT_MAINTAINER "The molt authors <molt@example.org>" CACHE STRING "Maintainer of the package: NAME <ADDRESS>")
set(MOLT_PACKAGE_RELEASE 1 CACHE STRING "The package's revision of this version")

set(PACKAGE_DIR ${CMAKE_BINARY_DIR}/package)
string(TIMESTAMP PACKAGE_DATE "%a, %d %b %Y %H:%M:%S +0000" UTC) # or SOURCE_DATE_EPOCH's
file(READ ${CMAKE_SOURCE_DIR}/LICENSE LICENCE)
string(REGEX MATCH "Copyright[^\n]*" PACKAGE_COPYRIGHT "${LICENCE}")
string(REGEX REPLACE "^.*(Permission is hereby)" "\\1" LICENCE "${LICENCE}")
string(REGEX REPLACE "\n\n" "\n.\n" LICENCE "${LICENCE}")
string(REGEX REPLACE "\n([^\n])" "\n \\1" PACKAGE_LICENCE "${LICENCE}")
foreach(file copyright changelog)
  configure_file(${CMAKE_CURRENT_LIST_DIR}/${file}.in ${PACKAGE_DIR}/${file} @ONLY)
endforeach()

function(package_gzip in out)
  execute_process(COMMAND gzip -9nc ${in} OUTPUT_FILE ${PACKAGE_DIR}/${out} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
package_gzip(${PACKAGE_DIR}/changelog changelog.Debian.gz)
package_gzip(${CMAKE_SOURCE_DIR}/CHANGELOG.md changelog.gz)

install(FILES ${PACKAGE_DIR}/copyright ${PACKAGE_DIR}/changelog.Debian.gz ${PACKAGE_DIR}/changelog.gz
  DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT debian EXCLUDE_FROM_ALL)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/lintian-overrides
  DESTINATION share/lintian/overrides RENAME molt COMPONENT debian EXCLUDE_FROM_ALL)
install(DIRECTORY DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/molt COMPONENT debian EXCLUDE_FROM_ALL)

set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_COMPONENTS_ALL Unspecified debian)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_NAME molt)
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR})
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION}${MOLT_VERSION_SUFFIX})
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE ${MOLT_PACKAGE_RELEASE})
set(CPACK_DEBIAN_PACKAGE_MAINTAINER ${MOLT_MAINTAINER})
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
# Who makes the user (sysusers.d): a program that Debian has in several packages.
set(CPACK_DEBIAN_PACKAGE_DEPENDS "systemd | systemd-standalone-sysusers")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "minimal KVM hypervisor that is replaced under running guests
molt runs one Linux guest under KVM and gives it PCI devices through VFIO.
A new version of the program takes over a running guest, passthrough devices
included, without a reboot, a reset of a device or a new process id.

The package has the program, molt-vfio-bind, which gives PCI devices to the
driver vfio-pci and back, molt-net-tap, which makes network interfaces for
guests, and the unit molt@.service. When it is upgraded, running guests are
updated to the new version.")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "iproute2, passt")
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_LIST_DIR}/postinst ${CMAKE_CURRENT_LIST_DIR}/prerm
  ${CMAKE_CURRENT_LIST_DIR}/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
