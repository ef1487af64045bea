// A field with a saved and a typed value; a newer saved value does not replace typed text.

export class Field {
  constructor(input, { write = (value) => value, read = (text) => text.trim() } = {}) {
    this.input = input;
    this.write = write;
    this.read = read;
    this.saved = "";
  }

  get value() {
    return this.read(this.input.value);
  }

  get isTyped() {
    return this.write(this.value) !== this.saved;
  }

  show(value) {
    const isTyped = this.isTyped;
    this.saved = this.write(value);
    if (!isTyped) this.revert();
  }

  // Marks the sent value as saved; keeps what was typed since.
  took(value) {
    this.saved = this.write(value);
  }

  revert() {
    if (this.input.value !== this.saved) this.input.value = this.saved;
  }

  mark(isWrong) {
    if (isWrong) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }
}
