select 'ÿ'
