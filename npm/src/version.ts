/** Version of this package; the server writes it into its log. A test holds it against package.json. */
export const version = "0.1.0";
