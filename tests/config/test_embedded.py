def test_x(db):
    from django.db import connection
    with connection.cursor() as c:
        c.execute("select current_user, current_database()")
        assert c.fetchone() == ("external_apis_owner", "test_external_apis")
