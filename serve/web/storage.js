// Values stored in this browser; without storage, they are lost with the page.

export function readStored(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function store(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    // the value is used until the page is closed
  }
}
