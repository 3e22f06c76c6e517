// express-openid-connect: the code by a form (its default), back-channel logout, and sign-out at the issuer.
import express from "express";
import oidc from "express-openid-connect";

const { ISSUER, PORT, CLIENT_ID, CLIENT_SECRET } = process.env;
const ended = new Map();
const store = {
  get: (id, done) => done(null, ended.get(id)),
  set: (id, value, done) => done(null, void ended.set(id, value)),
  destroy: (id, done) => done(null, void ended.delete(id)),
};
const app = express();
app.use(
  oidc.auth({
    issuerBaseURL: ISSUER,
    baseURL: `http://127.0.0.1:${PORT}`,
    clientID: CLIENT_ID,
    clientSecret: CLIENT_SECRET,
    secret: "obviously-a-fake-secret-of-this-site",
    authRequired: false,
    idpLogout: true,
    backchannelLogout: { store },
    authorizationParams: { response_type: "code", scope: "openid profile email" },
  }),
);
app.get("/", (request, answer) => answer.json(request.oidc.isAuthenticated()));
app.get("/me", async (request, answer) => answer.json(await request.oidc.fetchUserInfo()));
app.listen(PORT, "127.0.0.1");
