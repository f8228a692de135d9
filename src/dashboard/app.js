// The dashboard.
document.getElementById("app").textContent = "Kavach";
