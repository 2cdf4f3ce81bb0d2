export const element = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
