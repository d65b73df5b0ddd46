// Summaries of search results leave out formulas, which are TeX in the pages that are searched.
const textOfPage = Search.htmlToText;
Search.htmlToText = (html, anchor) => {
  const page = new DOMParser().parseFromString(html, "text/html");
  page.querySelectorAll(".math").forEach((formula) => formula.remove());
  return textOfPage(page.documentElement.outerHTML, anchor);
};
