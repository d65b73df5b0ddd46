/** Start Pyodide with mvgauss: `loadPyodide` and its options, and the address of mvgauss's wheel. */
export async function start(loadPyodide, options, wheel) {
  const pyodide = await loadPyodide(options);
  await pyodide.loadPackage("micropip");
  await pyodide.pyimport("micropip").install(wheel); // with NumPy, SciPy and threadpoolctl
  return pyodide;
}
